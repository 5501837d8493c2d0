/**
 * TemplatePython: what a chat template computes otherwise in the library than in Python, without saying so.
 *
 * - `strip`, `lstrip` and `rstrip` strip white space whatever they are told, and templates such as Qwen 3's strip line
 *   breaks alone.
 * - `==` and `!=` are JavaScript's, for which an empty text is `false`; templates such as Llama 2's have `false` where
 *   there is no system message.
 *
 * Both are therefore changed into calls of functions that are variables of the template.
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

/** Members of lists and mappings are wrapped by the library. */
const isEqualWrapped = (a: unknown, b: unknown): boolean =>
  Predicate.hasProperty(a, "value") && Predicate.hasProperty(b, "value") && isEqual(a.value, b.value)

const isEqual = (a: unknown, b: unknown): boolean => {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => isEqualWrapped(item, b[index]))
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size && [...a].every(([key, item]) => isEqualWrapped(item, b.get(key)))
  }
  // To Python, truth values are numbers.
  return (typeof a === "boolean" ? Number(a) : a) === (typeof b === "boolean" ? Number(b) : b)
}

const name = (operation: string) => `python_${operation}`

/** The functions, by the names of their variables. */
export const variables = {
  [name("strip")]: (text: unknown, characters: unknown) => strip(text, characters, true, true),
  [name("lstrip")]: (text: unknown, characters: unknown) => strip(text, characters, true, false),
  [name("rstrip")]: (text: unknown, characters: unknown) => strip(text, characters, false, true),
  [name("==")]: isEqual,
  [name("!=")]: (a: unknown, b: unknown) => !isEqual(a, b)
}

/** The operation that a node of a parsed template is, and what it is applied to. */
const operationOf = (
  node: Readonly<Record<string, unknown>>
): readonly [string, ReadonlyArray<unknown>] | undefined => {
  const { args, callee, left, operator, right, type } = node
  if (type === "BinaryExpression" && Predicate.hasProperty(operator, "value")) {
    return [String(operator.value), [left, right]]
  }
  if (type !== "CallExpression" || !Array.isArray(args) || args.length !== 1 || !Predicate.isObject(callee)) return
  const { computed, object, property } = callee as Readonly<Record<string, unknown>>
  if (computed !== false || !Predicate.hasProperty(property, "value")) return
  return [String(property.value), [object, args[0]]]
}

/** Changes the operations in a parsed template, in place. */
export const rewrite = (node: unknown): void => {
  if (Array.isArray(node)) return node.forEach(rewrite)
  if (node instanceof Map) return rewrite([...node])
  if (!Predicate.isObject(node)) return
  const parts: Record<string, unknown> = node
  Object.values(parts).forEach(rewrite)
  const [operation, operands] = operationOf(parts) ?? []
  if (operation === undefined || !(name(operation) in variables)) return
  parts["type"] = "CallExpression"
  parts["callee"] = { type: "Identifier", value: name(operation) }
  parts["args"] = operands
}
