/**
 * TemplateSelect: `select`, `reject`, `selectattr` and `rejectattr` of a chat template, the items of a list that pass a
 * test or fail it.
 *
 * The library knows the latter two alone, with few tests and values written out; Llama 3.1's template rejects one of
 * its `builtin_tools`.
 */
import { Predicate } from "effect"
import type { Value } from "./PythonText.ts"

type Test = (item: Value, given: unknown) => boolean

const isTrue: Test = ({ value }) =>
  Array.isArray(value) ? value.length > 0 : value instanceof Map ? value.size > 0 : Boolean(value)

const isSequence = ({ value }: Value): boolean =>
  Predicate.isString(value) || Array.isArray(value) || value instanceof Map

const testsOf = (isEqual: (a: unknown, b: unknown) => boolean): Readonly<Record<string, Test>> => {
  const equal: Test = ({ value }, given) => isEqual(value, given)
  const unequal: Test = (item, given) => !equal(item, given)
  return {
    equalto: equal,
    eq: equal,
    "==": equal,
    ne: unequal,
    "!=": unequal,
    in: ({ value }, given) =>
      Array.isArray(given)
        ? (given as ReadonlyArray<Value>).some((one) => isEqual(value, one.value))
        : Predicate.isString(given) && Predicate.isString(value)
          ? given.includes(value)
          : given instanceof Map && given.has(value),
    defined: ({ type }) => type !== "UndefinedValue",
    undefined: ({ type }) => type === "UndefinedValue",
    none: ({ type }) => type === "NullValue",
    boolean: ({ type }) => type === "BooleanValue",
    true: ({ value }) => value === true,
    false: ({ value }) => value === false,
    integer: ({ type }) => type === "IntegerValue",
    float: ({ type }) => type === "FloatValue",
    number: ({ value }) => Predicate.isNumber(value),
    odd: ({ value }) => Predicate.isNumber(value) && Math.abs(value % 2) === 1,
    even: ({ value }) => Predicate.isNumber(value) && value % 2 === 0,
    sequence: isSequence,
    iterable: (item) => item.type === "UndefinedValue" || isSequence(item),
    string: ({ value }) => Predicate.isString(value),
    mapping: ({ value }) => value instanceof Map
  }
}

/** A value as the library takes it from a function. */
const plain = ({ type, value }: Value): unknown => {
  if (type === "NullValue") return null
  if (Array.isArray(value)) return (value as ReadonlyArray<Value>).map(plain)
  if (!(value instanceof Map)) return value
  return Object.fromEntries(Array.from(value as ReadonlyMap<string, Value>, ([key, item]) => [key, plain(item)]))
}

const missing: Value = { type: "UndefinedValue", value: undefined }

/** What an item has under a name, which may go several mappings deep. */
const within = (item: Value, path: string): Value =>
  path
    .split(".")
    .reduce<Value>(({ value }, key) => (value instanceof Map ? ((value.get(key) as Value) ?? missing) : missing), item)

/** The filters by their names, for a language's equality. */
export const filters = (isEqual: (a: unknown, b: unknown) => boolean) => {
  const tests = testsOf(isEqual)
  const select =
    (filter: string, kept: boolean, attribute: boolean) =>
    (items: unknown, ...operands: ReadonlyArray<unknown>): unknown => {
      if (!Array.isArray(items)) throw new Error(`${filter} takes a list`)
      const [path, name, given] = attribute ? operands : [undefined, ...operands]
      if (attribute && !Predicate.isString(path)) throw new Error(`${filter} takes the name of an attribute`)
      const test = name === undefined ? isTrue : Object.hasOwn(tests, String(name)) ? tests[String(name)]! : undefined
      if (test === undefined) throw new Error(`${filter} knows no test ${String(name)}`)
      return (items as ReadonlyArray<Value>)
        .filter((item) => test(Predicate.isString(path) ? within(item, path) : item, given) === kept)
        .map(plain)
    }
  return {
    "|select": select("select", true, false),
    "|reject": select("reject", false, false),
    "|selectattr": select("selectattr", true, true),
    "|rejectattr": select("rejectattr", false, true)
  }
}
