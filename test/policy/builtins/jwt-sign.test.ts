import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('signing tokens', () => {
  itGives('sign with HMAC and Ed25519', 'io.jwt.encode_sign', [
    [
      [
        '{"alg": "HS256", "typ": "JWT"}',
        '{}',
        '{"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}',
      ],
      '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.6cvao8lnOu6FAdK68jQFcDMXOmaWNwWiYhCgijd-AD8"',
    ],
    [
      ['{"alg": "HS512"}', '{"b": "<é>", "a": {2, 1}}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'],
      '"eyJhbGciOiJIUzUxMiJ9.eyJhIjpbMSwyXSwiYiI6Ilx1MDAzY8OpXHUwMDNlIn0.-MOUijg3ksCCXDoeUFQALEAjd_e6e2pY532x0FQ16iDTpCJn9xhp-D_WKrSClbQ1kge_7a8pv5e23gTBdjeQag"',
    ],
    [
      [
        '{"alg": "EdDSA"}',
        '"Example of Ed25519 signing"',
        '{"kty": "OKP", "crv": "Ed25519", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
      ],
      '"eyJhbGciOiJFZERTQSJ9.IkV4YW1wbGUgb2YgRWQyNTUxOSBzaWduaW5nIg.AmIpx51kuYydnD_QPF0XqoHlfIGEaQ0P9o3xZlTpAfXT8itC8AX4D4VJVGQUnmmgPEkbpEN2cOm7shfg6fpMBQ"',
    ],
    [['{"alg": "none"}', '{}', '{"kty": "oct", "k": "c2VjcmV0"}'], undefined],
    [['{}', '{}', '{"kty": "oct", "k": "c2VjcmV0"}'], undefined],
    [['{"alg": "HS256"}', '{}', '{"keys": []}'], undefined],
    [['{"alg": "RS256"}', '{}', '{"kty": "oct", "k": "c2VjcmV0"}'], undefined],
  ])

  itGives('sign texts as they are', 'io.jwt.encode_sign_raw', [
    [
      [
        '"{\\"typ\\":\\"JWT\\",\\r\\n \\"alg\\":\\"HS256\\"}"',
        '"{\\"iss\\":\\"joe\\",\\r\\n \\"exp\\":1300819380,\\r\\n \\"http://example.com/is_root\\":true}"',
        '"{\\"kty\\":\\"oct\\",\\"k\\":\\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow\\"}"',
      ],
      '"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"',
    ],
    [
      [
        '"{\\"typ\\":\\"text/plain\\",\\"alg\\":\\"HS256\\"}"',
        '"e"',
        '"{\\"kty\\":\\"oct\\",\\"k\\":\\"c2VjcmV0\\"}"',
      ],
      '"eyJ0eXAiOiJ0ZXh0L3BsYWluIiwiYWxnIjoiSFMyNTYifQ.ZQ.V0KNXtO-vBQDuh_0Xgno9sNTK5p5ctp_XmIhWmCaOYU"',
    ],
    [['"{\\"alg\\":\\"HS256\\"}"', '"e"', '"{\\"kty\\":\\"oct\\",\\"k\\":\\"c2VjcmV0\\"}"'], undefined],
    [['"x"', '"{}"', '"{\\"kty\\":\\"oct\\",\\"k\\":\\"c2VjcmV0\\"}"'], undefined],
    [['"{\\"alg\\":\\"HS256\\"}"', '"{}"', '"x"'], undefined],
  ])
})
