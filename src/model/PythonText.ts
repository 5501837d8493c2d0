/**
 * PythonText: the text that Python's `str` makes of a chat template's values.
 *
 * Templates write with it what they join by `~` or give to the filter `string`, such as SmolLM 3's the tools. The library
 * knows it of some values alone, and of others it makes `[object Map]`.
 */
import { Predicate } from "effect"

/** What is used of the library's values: lists and mappings have values within them. */
export interface Value {
  readonly type: string
  readonly value: unknown
}

/** Characters that Python does not print within quotes. */
const unprinted = /[\p{C}\p{Zl}\p{Zp}\p{Zs}]/u

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" }

const hexadecimal = (character: string): string => {
  const code = character.codePointAt(0)!.toString(16)
  return code.length <= 2
    ? `\\x${code.padStart(2, "0")}`
    : code.length <= 4
      ? `\\u${code.padStart(4, "0")}`
      : `\\U${code.padStart(8, "0")}`
}

const quoted = (text: string): string => {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const written = Array.from(text, (character) =>
    character === quote
      ? `\\${quote}`
      : (escapes[character] ?? (character !== " " && unprinted.test(character) ? hexadecimal(character) : character))
  )
  return quote + written.join("") + quote
}

/** A number as Python writes it: one below 0.0001 with an exponent, of two digits at least. */
const number = (written: string): string => {
  const size = Math.abs(Number(written))
  if (size === 0 || size >= 1e-4) return written
  return Number(written)
    .toExponential()
    .replace(/-(\d)$/, "-0$1")
}

/** JSON with its numbers as Python's `json` writes them. */
export const json = (text: string): string => {
  // A pattern for whole texts would overflow the stack for a long one.
  let isText = false
  return text.replace(/\\.|"|-?\d[\d.e+-]*/g, (token) => {
    if (token === '"') isText = !isText
    return isText || token === '"' ? token : number(token)
  })
}

/** A value within a list or a mapping. */
const within = (value: Value): string => (Predicate.isString(value.value) ? quoted(value.value) : of(value))

/** The text of a value; that of what is undefined is empty. */
export const of = (value: Value): string => {
  const { type, value: own } = value
  if (type === "NullValue") return "None"
  if (type === "UndefinedValue") return ""
  if (typeof own === "boolean") return own ? "True" : "False"
  if (Array.isArray(own)) {
    const items = own.map(within).join(", ")
    return type === "TupleValue" ? `(${items}${own.length === 1 ? "," : ""})` : `[${items}]`
  }
  if (own instanceof Map) {
    const entries = Array.from(own as ReadonlyMap<string, Value>, ([key, item]) => `${quoted(key)}: ${within(item)}`)
    return `{${entries.join(", ")}}`
  }
  // Its own method tells whole numbers from others.
  return Predicate.isNumber(own) ? number(String(value)) : String(value)
}
