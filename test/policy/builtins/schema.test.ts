import { describe } from 'mocha'
import { itGives } from './gives.ts'

describe('JSON Schema builtins', () => {
  itGives('accept a document that fits', 'json.match_schema', [
    [['{"id": 5}', '{"properties": {"id": {"type": "integer"}}, "required": ["id"]}'], '[true, []]'],
    [['"{\\"id\\": 5}"', '"{\\"type\\": \\"object\\"}"'], '[true, []]'],
    [['{"a": 2.0}', '{"properties": {"a": {"type": "integer"}}}'], '[true, []]'],
    [['[1, "a"]', '{"items": [{"type": "number"}, {"type": "string"}]}'], '[true, []]'],
    [['"\\"abc\\""', '{"pattern": "^a"}'], '[true, []]'],
    [['{"a": {1, 2}}', '{"properties": {"a": {"minItems": 2}}}'], '[true, []]'],
  ])

  itGives(`say what does not fit, with OPA's words`, 'json.match_schema', [
    [
      ['{"id": "foo"}', '{"properties": {"id": {"type": "integer"}}}'],
      '[false, [{"desc": "Invalid type. Expected: integer, given: string", "error": "id: Invalid type. Expected: integer, given: string", "field": "id", "type": "invalid_type"}]]',
    ],
    [
      ['{}', '{"required": ["a"]}'],
      '[false, [{"desc": "a is required", "error": "(Root): a is required", "field": "(Root)", "type": "required"}]]',
    ],
    [
      ['{"a": 1}', '{"additionalProperties": false}'],
      '[false, [{"desc": "Additional property a is not allowed", "error": "(Root): Additional property a is not allowed", "field": "(Root)", "type": "additional_property_not_allowed"}]]',
    ],
    [
      ['"5"', '{"maximum": 4, "multipleOf": 2, "exclusiveMinimum": 5}'],
      '[false, [{"desc": "Must be a multiple of 2", "error": "(Root): Must be a multiple of 2", "field": "(Root)", "type": "multiple_of"}, {"desc": "Must be less than or equal to 4", "error": "(Root): Must be less than or equal to 4", "field": "(Root)", "type": "number_lte"}, {"desc": "Must be greater than 5", "error": "(Root): Must be greater than 5", "field": "(Root)", "type": "number_gt"}]]',
    ],
    [
      ['"\\"abc\\""', '{"maxLength": 2, "pattern": "^x", "enum": ["a", 1]}'],
      '[false, [{"desc": "(Root) must be one of the following: \\"a\\", 1", "error": "(Root): (Root) must be one of the following: \\"a\\", 1", "field": "(Root)", "type": "enum"}, {"desc": "String length must be less than or equal to 2", "error": "(Root): String length must be less than or equal to 2", "field": "(Root)", "type": "string_lte"}, {"desc": "Does not match pattern \'^x\'", "error": "(Root): Does not match pattern \'^x\'", "field": "(Root)", "type": "pattern"}]]',
    ],
    [
      ['[1, 1.0]', '{"uniqueItems": true, "maxItems": 1}'],
      '[false, [{"desc": "Array must have at most 1 items", "error": "(Root): Array must have at most 1 items", "field": "(Root)", "type": "array_max_items"}, {"desc": "array items[0,1] must be unique", "error": "(Root): array items[0,1] must be unique", "field": "(Root)", "type": "unique"}]]',
    ],
    [
      ['"1"', '{"anyOf": [{"type": "string"}, {"minimum": 2}]}'],
      '[false, [{"desc": "Must validate at least one schema (anyOf)", "error": "(Root): Must validate at least one schema (anyOf)", "field": "(Root)", "type": "number_any_of"}, {"desc": "Must be greater than or equal to 2", "error": "(Root): Must be greater than or equal to 2", "field": "(Root)", "type": "number_gte"}]]',
    ],
    [
      ['"1"', '{"oneOf": [{}, true]}'],
      '[false, [{"desc": "Must validate one and only one schema (oneOf)", "error": "(Root): Must validate one and only one schema (oneOf)", "field": "(Root)", "type": "number_one_of"}]]',
    ],
    [
      ['"1"', '{"allOf": [{"type": "string"}]}'],
      '[false, [{"desc": "Invalid type. Expected: string, given: integer", "error": "(Root): Invalid type. Expected: string, given: integer", "field": "(Root)", "type": "invalid_type"}, {"desc": "Must validate all the schemas (allOf)", "error": "(Root): Must validate all the schemas (allOf)", "field": "(Root)", "type": "number_all_of"}]]',
    ],
    [
      ['"1"', '{"not": {}}'],
      '[false, [{"desc": "Must not validate the schema (not)", "error": "(Root): Must not validate the schema (not)", "field": "(Root)", "type": "number_not"}]]',
    ],
    [
      ['{"a": 1}', '{"dependencies": {"a": ["b"]}}'],
      '[false, [{"desc": "Has a dependency on b", "error": "(Root): Has a dependency on b", "field": "(Root)", "type": "missing_dependency"}]]',
    ],
    [
      ['"1"', '{"if": {"minimum": 0}, "then": {"minimum": 5}}'],
      '[false, [{"desc": "Must validate \\"then\\" as \\"if\\" was valid", "error": "(Root): Must validate \\"then\\" as \\"if\\" was valid", "field": "(Root)", "type": "condition_then"}, {"desc": "Must be greater than or equal to 5", "error": "(Root): Must be greater than or equal to 5", "field": "(Root)", "type": "number_gte"}]]',
    ],
    [
      ['[1]', '{"contains": {"type": "string"}}'],
      '[false, [{"desc": "At least one of the items must match", "error": "(Root): At least one of the items must match", "field": "(Root)", "type": "contains"}, {"desc": "Invalid type. Expected: string, given: integer", "error": "0: Invalid type. Expected: string, given: integer", "field": "0", "type": "invalid_type"}]]',
    ],
    [
      ['{"ab": 1}', '{"propertyNames": {"maxLength": 1}}'],
      '[false, [{"desc": "Property name of \\"ab\\" does not match", "error": "(Root): Property name of \\"ab\\" does not match", "field": "(Root)", "type": "invalid_property_name"}, {"desc": "String length must be less than or equal to 1", "error": "(Root): String length must be less than or equal to 1", "field": "(Root)", "type": "string_lte"}]]',
    ],
    [
      ['"1"', '"false"'],
      '[false, [{"desc": "False always fails validation", "error": "(Root): False always fails validation", "field": "(Root)", "type": "false"}]]',
    ],
    [
      ['"1"', '{"const": 2}'],
      '[false, [{"desc": "(Root) does not match: 2", "error": "(Root): (Root) does not match: 2", "field": "(Root)", "type": "const"}]]',
    ],
    [
      ['"1e6"', '{"maximum": 100000.5, "minimum": 10000000}'],
      '[false, [{"desc": "Must be less than or equal to 100000.5", "error": "(Root): Must be less than or equal to 100000.5", "field": "(Root)", "type": "number_lte"}, {"desc": "Must be greater than or equal to 1e+07", "error": "(Root): Must be greater than or equal to 1e+07", "field": "(Root)", "type": "number_gte"}]]',
    ],
  ])

  itGives('follow references inside the schema', 'json.match_schema', [
    [
      ['{"a": {"a": 1}}', '{"properties": {"a": {"$ref": "#"}}, "type": "object"}'],
      '[false, [{"desc": "Invalid type. Expected: object, given: integer", "error": "a.a: Invalid type. Expected: object, given: integer", "field": "a.a", "type": "invalid_type"}]]',
    ],
    [
      ['"1"', '{"$ref": "#/definitions/s", "definitions": {"s": {"type": "string"}}}'],
      '[false, [{"desc": "Invalid type. Expected: string, given: integer", "error": "(Root): Invalid type. Expected: string, given: integer", "field": "(Root)", "type": "invalid_type"}]]',
    ],
    [
      [
        '{"a": 1}',
        '{"$id": "http://x/root.json", "definitions": {"q": {"$id": "q.json", "type": "string"}}, "properties": {"a": {"$ref": "q.json"}}}',
      ],
      '[false, [{"desc": "Invalid type. Expected: string, given: integer", "error": "a: Invalid type. Expected: string, given: integer", "field": "a", "type": "invalid_type"}]]',
    ],
    [['"1"', '{"$ref": "#/nope"}'], undefined],
  ])

  itGives('check formats', 'json.match_schema', [
    [
      ['"\\"2020-02-30\\""', '{"format": "date"}'],
      `[false, [{"desc": "Does not match format 'date'", "error": "(Root): Does not match format 'date'", "field": "(Root)", "type": "format"}]]`,
    ],
    [['"\\"2020-02-29T10:00:00Z\\""', '{"format": "date-time"}'], '[true, []]'],
    [
      ['"\\"a b\\""', '{"format": "hostname"}'],
      `[false, [{"desc": "Does not match format 'hostname'", "error": "(Root): Does not match format 'hostname'", "field": "(Root)", "type": "format"}]]`,
    ],
    [['"\\"a@b\\""', '{"format": "email"}'], '[true, []]'],
    [
      ['"\\"@b\\""', '{"format": "email"}'],
      `[false, [{"desc": "Does not match format 'email'", "error": "(Root): Does not match format 'email'", "field": "(Root)", "type": "format"}]]`,
    ],
    [
      ['"\\"1.2.3.4\\""', '{"format": "ipv6"}'],
      `[false, [{"desc": "Does not match format 'ipv6'", "error": "(Root): Does not match format 'ipv6'", "field": "(Root)", "type": "format"}]]`,
    ],
    [
      ['"\\"a(\\""', '{"format": "regex"}'],
      `[false, [{"desc": "Does not match format 'regex'", "error": "(Root): Does not match format 'regex'", "field": "(Root)", "type": "format"}]]`,
    ],
    [['"\\"x\\""', '{"format": "unknown"}'], '[true, []]'],
    [['"1"', '{"format": "uuid"}'], '[true, []]'],
  ])

  itGives('are undefined for what is no document or no schema', 'json.match_schema', [
    [['1', '{}'], undefined],
    [['"{"', '{}'], undefined],
    [['{}', '1'], undefined],
    [['{}', '{"type": "unknown"}'], undefined],
    [['{}', '{"pattern": "("}'], undefined],
  ])

  itGives('verify schemas', 'json.verify_schema', [
    [['{"type": "object"}'], '[true, null]'],
    [['"{\\"type\\": \\"object\\"}"'], '[true, null]'],
    [
      ['{"type": "unknown"}'],
      '[false, "jsonschema: has a primitive type that is NOT VALID -- given: /unknown/ Expected valid values are:[array boolean integer number null object string]"]',
    ],
    [['"{"'], '[false, "jsonschema: invalid JSON string"]'],
    [['1'], '[false, "jsonschema: wrong type, expected string or object"]'],
    [['{"minLength": -1}'], '[false, "jsonschema: minLength must be greater than or equal to 0"]'],
    [['{"properties": {"a": 1}}'], '[false, "jsonschema: Expected: Valid Schema, given: Invalid JSON"]'],
    [['{"required": ["a", "a"]}'], '[false, "jsonschema: required items must be unique"]'],
    [['{"pattern": "(?=a)"}'], '[false, "jsonschema: pattern must be a valid regex"]'],
    [
      ['{"$schema": "http://json-schema.org/draft-04/schema#", "exclusiveMinimum": 1}'],
      '[false, "jsonschema: Invalid type. Expected: boolean, given: exclusiveMinimum"]',
    ],
    [
      ['{"exclusiveMinimum": true}'],
      '[false, "jsonschema: exclusiveMinimum cannot be used without minimum"]',
    ],
  ])
})
