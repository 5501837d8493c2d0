/**
 * TemplateStrip: `strip`, `lstrip` and `rstrip` of a chat template with characters to strip, as Python has them.
 *
 * The library strips white space whatever it is told, and templates such as Qwen 3's strip line breaks alone. Their calls
 * `text.lstrip(characters)` are therefore changed into calls of a function that is a variable of the template.
 */
import { Predicate } from "effect"

const strip = (text: unknown, characters: unknown, start: boolean, end: boolean): string => {
  if (typeof text !== "string" || typeof characters !== "string") throw new Error("strip() takes a text and characters")
  const set = new Set(characters)
  const units = [...text]
  const isKept = (character: string) => !set.has(character)
  const from = start ? units.findIndex(isKept) : 0
  return from < 0 ? "" : units.slice(from, end ? units.findLastIndex(isKept) + 1 : units.length).join("")
}

const name = (method: string) => `python_${method}`

/** The functions, by the names of their variables. */
export const variables = {
  [name("strip")]: (text: unknown, characters: unknown) => strip(text, characters, true, true),
  [name("lstrip")]: (text: unknown, characters: unknown) => strip(text, characters, true, false),
  [name("rstrip")]: (text: unknown, characters: unknown) => strip(text, characters, false, true)
}

/** Changes the calls in a parsed template, in place. */
export const rewrite = (node: unknown): void => {
  if (Array.isArray(node)) return node.forEach(rewrite)
  if (node instanceof Map) return rewrite([...node])
  if (!Predicate.isObject(node)) return
  const parts: Record<string, unknown> = node
  Object.values(parts).forEach(rewrite)
  const { args, callee, type } = parts
  if (type !== "CallExpression" || !Array.isArray(args) || args.length !== 1 || !Predicate.isObject(callee)) return
  const { computed, object, property } = callee as Readonly<Record<string, unknown>>
  if (computed !== false || !Predicate.hasProperty(property, "value")) return
  const variable = name(String(property.value))
  if (!(variable in variables)) return
  parts["callee"] = { type: "Identifier", value: variable }
  parts["args"] = [object, args[0]]
}
