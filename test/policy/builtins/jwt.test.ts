import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('JSON Web Tokens', () => {
  itGives('decode without verifying', 'io.jwt.decode', [
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
      ],
      '[{"alg": "HS256", "typ": "JWT"}, {"aud": ["a", "b"], "exp": 1700000100, "iss": "me", "n": 1}, "a4014d56aa62d9445af757e2f88a627a1b591568dee6515c285f10481a162ad7"]',
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
      ],
      '[{"alg": "ES256"}, {"exp": 1300819380, "http://example.com/is_root": true, "iss": "joe"}, "0ed1215379636c483c2f7f155807d402a3b228033af97c7e17819ac3169ea665c50a07d38c3c70e5d8f12daf084a5480a66590c5f293509a8f3f7f8a83a354d5"]',
    ],
    [['"a.b"'], undefined],
    [['"e30.W10.AA"'], undefined],
    [['"eyJlbmMiOiJ4In0.e30.AA"'], undefined],
    [['1'], undefined],
  ])

  itGives('verify an HMAC', 'io.jwt.verify_hs256', [
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '"secret"',
      ],
      'true',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '"other"',
      ],
      'false',
    ],
    [['"x"', '"secret"'], undefined],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc="',
        '"secret"',
      ],
      'true',
    ],
  ])

  itGives('verify ECDSA with a PEM key or a key set', 'io.jwt.verify_es256', [
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n"',
      ],
      'true',
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"{\\"keys\\":[{\\"kty\\":\\"EC\\",\\"crv\\":\\"P-256\\",\\"kid\\":\\"other\\",\\"x\\":\\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\\",\\"y\\":\\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\\"},{\\"kty\\":\\"EC\\",\\"crv\\":\\"P-256\\",\\"kid\\":\\"mine\\",\\"x\\":\\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\\",\\"y\\":\\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\\"}]}"',
      ],
      'true',
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJqc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n"',
      ],
      'false',
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"{\\"kty\\":\\"nope\\"}"',
      ],
      undefined,
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"garbage"',
      ],
      undefined,
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n"',
      ],
      undefined,
    ],
  ])

  itGives('do not take a key of another kind', 'io.jwt.verify_rs256', [
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n"',
      ],
      'false',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n"',
      ],
      'false',
    ],
  ])

  itGives('decode and verify signature and claims', 'io.jwt.decode_verify', [
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "iss": "me", "aud": "b", "time": 1700000000000000000}',
      ],
      '[true, {"alg": "HS256", "typ": "JWT"}, {"aud": ["a", "b"], "exp": 1700000100, "iss": "me", "n": 1}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "aud": "b", "time": 1700000100000000000}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "aud": "c", "time": 0}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "time": 0}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "aud": "a", "iss": "you", "time": 0}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "wrong", "aud": "a", "time": 0}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "alg": "HS512", "aud": "a", "time": 0}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"',
        '{"cert": "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\\n-----END PUBLIC KEY-----\\n", "time": 0}',
      ],
      '[true, {"alg": "ES256"}, {"exp": 1300819380, "http://example.com/is_root": true, "iss": "joe"}]',
    ],
    [
      ['"eyJhbGciOiJub25lIn0.e30.K5fUbCOH9sO36oYAO2K4X-L0PdIX_krQaQtpuNIHgXo"', '{"secret": "secret"}'],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdLCJ4IjoxfQ.e30.kGF-79PcHCwJlbN9FmD62cSdeZvKWqJJyRgs21kCA1o"',
        '{"secret": "secret"}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiJ9.eyJuYmYiOjIwMDAwMDAwMDB9.VHr57ZiMABOMLS-GGa2bWmjn-cbXttOVZPxiCoogWg0"',
        '{"secret": "secret"}',
      ],
      '[false, {}, {}]',
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{}',
      ],
      undefined,
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "nope": 1}',
      ],
      undefined,
    ],
    [
      [
        '"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJtZSIsImF1ZCI6WyJhIiwiYiJdLCJleHAiOjE3MDAwMDAxMDAsIm4iOjF9.pAFNVqpi2URa91fi-IpiehtZFWje5lFcKF8QSBoWKtc"',
        '{"secret": "secret", "cert": "x"}',
      ],
      undefined,
    ],
  ])
})
