/**
 * TemplatePython: what a chat template computes otherwise in the library than in Python, without saying so.
 *
 * - `strip`, `lstrip` and `rstrip` strip white space whatever they are told, and templates such as Qwen 3's strip line
 *   breaks alone. White space is JavaScript's to them and to `trim`, which templates such as Llama 3's call.
 * - `==` and `!=` are JavaScript's, for which an empty text is `false`; templates such as Llama 2's have `false` where
 *   there is no system message.
 * - `capitalize` and `title` keep the capitals within a word, and the filter `title` begins a word behind any mark.
 * - `+` joins a text to anything, of which an object becomes `[object Map]`; a text is joined to a text alone.
 * - `~` and the filter `string` make `[object Map]` of a mapping, or fail for it, and `true` of a truth value. What is
 *   written is JSON of a list or mapping, `true` of a truth value, and nothing of none.
 * - `%` has the sign of the number that is divided, a mapping is not `iterable`, and `join` ignores its `attribute`.
 * - `first` and `last` fail where there is none, and `length`, `upper`, `lower` and loops for what is undefined, which is
 *   empty. `upper` and `lower` fail for what is no text.
 * - `.items()`, `.keys()` and `.values()` fail for a mapping that has such a key, as the arguments of a tool may.
 * - Numbers below 0.0001 have another exponent, or none, in `tojson`, too.
 * - `select` and `reject` are missing, and with `attr` know few tests (see `TemplateSelect.ts`).
 * - A loop's turn loses what it has written before a `continue` or `break` (see `TemplateLoops.ts`).
 *
 * Loops, `%`, `iterable`, `join`, `first`, `last` and `length` are said in other words of the library's own, which tells
 * apart what a function is given as the same: whole numbers and others, and what is none and undefined. The rest is
 * changed into calls of functions that are variables of the template.
 */
import { Predicate } from "effect"
import * as PythonText from "./PythonText.ts"
import * as TemplateLoops from "./TemplateLoops.ts"
import * as TemplateSelect from "./TemplateSelect.ts"

/** A part of a parsed template. */
type Node = Readonly<Record<string, unknown>>

/** Python's white space, to stand in a class: U+0085 and U+001C to U+001F are of it, and U+FEFF is not. */
const space = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`
const isSpace = new RegExp(`[${space}]`)
/** What Jinja's `title` ends a word with. */
const wordEnds = new RegExp(`([-({[<${space}]+)`)

const textOf = (value: unknown, operation: string): string => {
  if (typeof value !== "string") throw new Error(`${operation} takes a text`)
  return value
}

const strip = (text: string, characters: unknown, start: boolean, end: boolean): string => {
  const set = Predicate.isNullish(characters) ? undefined : new Set(textOf(characters, "strip() of characters"))
  const units = [...text]
  const isKept = (character: string) => !(set === undefined ? isSpace.test(character) : set.has(character))
  const from = start ? units.findIndex(isKept) : 0
  return from < 0 ? "" : units.slice(from, end ? units.findLastIndex(isKept) + 1 : units.length).join("")
}

/** The first character as a capital, which may be of two letters. */
const capitalize = (text: string): string => {
  const [first = ""] = text
  const [capital = "", ...more] = first.toUpperCase()
  return capital + more.join("").toLowerCase() + text.toLowerCase().slice(first.toLowerCase().length)
}

/** As Jinja has it: the marks between words are words, too, of which nothing changes. */
const title = (text: string): string =>
  text
    .split(wordEnds)
    .map(([first = "", ...rest]) => first.toUpperCase() + rest.join("").toLowerCase())
    .join("")

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

const joined = (a: unknown, b: unknown): string => {
  if (typeof a === "string" && typeof b === "string") return a + b
  const other = typeof a === "string" ? b : a
  const said = Predicate.isNullish(other) ? "nothing" : typeof other === "object" ? "an object" : String(other)
  throw new Error(`+ joins a text to ${said}, which is no text`)
}

/** The texts of values in a list: a function is given those with all that the library knows of them. */
const texts = (values: unknown): string => (values as ReadonlyArray<PythonText.Value>).map(PythonText.of).join("")

/** The functions by their operations: methods after a dot, filters after a bar. */
const functions: Readonly<Record<string, (...operands: ReadonlyArray<unknown>) => unknown>> = {
  ".strip": (text, characters) => strip(textOf(text, "strip()"), characters, true, true),
  ".lstrip": (text, characters) => strip(textOf(text, "lstrip()"), characters, true, false),
  ".rstrip": (text, characters) => strip(textOf(text, "rstrip()"), characters, false, true),
  "|trim": (text, characters) => strip(textOf(text, "trim"), characters, true, true),
  ".capitalize": (text) => capitalize(textOf(text, "capitalize()")),
  "|capitalize": (text) => capitalize(textOf(text, "capitalize")),
  // Any letter that follows none begins a word for the method, as in `It'S`.
  ".title": (text) => textOf(text, "title()").replace(/\p{Cased}+/gu, capitalize),
  "|title": (text) => title(textOf(text, "title")),
  "|tojson": (json) => PythonText.json(textOf(json, "tojson")),
  "+": joined,
  "~": texts,
  ...TemplateSelect.filters(isEqual),
  "==": isEqual,
  "!=": (a, b) => !isEqual(a, b)
}

/** Whether a node, whose parts are already changed, is a text whatever the conversation. */
const isText = (node: unknown): boolean => {
  const { callee, type } = node as Node
  return type === "StringLiteral" || (type === "CallExpression" && [name("+"), name("~")].includes(valueOf(callee)!))
}

const name = (operation: string) => `python_${operation}`

/** The functions, by the names of their variables. */
export const variables = Object.fromEntries(Object.entries(functions).map(([key, value]) => [name(key), value]))

const valueOf = (node: unknown): string | undefined =>
  Predicate.hasProperty(node, "value") ? String(node.value) : undefined

/** The arguments of a filter, `keys` being the names of those that have none; undefined is one that is not given. */
const argumentsOf = (filter: unknown, keys: ReadonlyArray<string>): ReadonlyArray<unknown> => {
  const args: ReadonlyArray<Node> =
    Predicate.hasProperty(filter, "args") && Array.isArray(filter.args) ? filter.args : []
  const isNamed = ({ type }: Node) => type === "KeywordArgumentExpression"
  const inOrder = args.filter((argument) => !isNamed(argument))
  return keys.map((key, i) => inOrder[i] ?? args.find((arg) => isNamed(arg) && valueOf(arg["key"]) === key)?.["value"])
}

const call = (callee: string, args: ReadonlyArray<unknown>): Node => ({
  type: "CallExpression",
  callee: { type: "Identifier", value: callee },
  args
})

const binary = (left: unknown, operator: string, right: unknown): Node => ({
  type: "BinaryExpression",
  operator: { value: operator },
  left,
  right
})

const applied = (operand: unknown, filter: string, args: ReadonlyArray<unknown>): Node => ({
  type: "FilterExpression",
  operand,
  filter: call(filter, args)
})

/** As `applied` to nothing more: by the name alone, the library finds what a mapping has under its methods' names. */
const filtered = (operand: unknown, filter: string): Node => ({
  type: "FilterExpression",
  operand,
  filter: { type: "Identifier", value: filter }
})

const test = (operand: unknown, name: string): Node => ({
  type: "TestExpression",
  operand,
  negate: false,
  test: { type: "Identifier", value: name }
})

/** The values of operands as one text. */
const asText = (operands: ReadonlyArray<unknown>): Node => call(name("~"), [{ type: "ArrayLiteral", value: operands }])

const member = (object: unknown, index: number): Node => ({
  type: "MemberExpression",
  object,
  property: { type: "IntegerLiteral", value: index },
  computed: true
})

const given = (operands: ReadonlyArray<unknown>) => operands.filter((operand) => operand !== undefined)

/** The filter of a node, and what it filters: a text that is undefined is an empty one. */
const filterOf = (node: Node): readonly [filter: string | undefined, operand: unknown] => {
  const { body, filter, operand, type } = node
  const named = Predicate.hasProperty(filter, "callee") ? filter.callee : filter
  return [valueOf(named), applied(type === "FilterStatement" ? { type: "Program", body } : operand, "default", [])]
}

/** The operation that a node of a parsed template is, and what it is applied to. */
const operationOf = (node: Node): readonly [operation: string, operands: ReadonlyArray<unknown>] | undefined => {
  switch (node["type"]) {
    case "BinaryExpression":
      return [valueOf(node["operator"])!, [node["left"], node["right"]]]
    case "TestExpression":
      return [`is ${valueOf(node["test"])}`, [node["operand"]]]
    case "FilterExpression":
    case "FilterStatement": {
      const [filter, operand] = filterOf(node)
      if (/^(select|reject)(attr)?$/.test(filter ?? "")) {
        return [`|${filter}`, given([node["operand"], ...argumentsOf(node["filter"], ["", "", ""])])]
      }
      return [`|${filter}`, given([operand, ...argumentsOf(node["filter"], ["chars"])])]
    }
    case "CallExpression": {
      const { computed, object, property } = node["callee"] as Node
      if (computed === false) return [`.${valueOf(property)}`, [object, ...(node["args"] as ReadonlyArray<unknown>)]]
    }
  }
  return undefined
}

/** What is said in other words of the library's own. */
const rephrased: Readonly<Record<string, (node: Node, operands: ReadonlyArray<unknown>) => Node>> = {
  "~": (_, operands) => asText(operands),
  "|string": (_, operands) => asText(operands),
  "|first": (_, [operand]) => member(operand, 0),
  "|last": (_, [operand]) => member(operand, -1),
  "|tojson": (node) => call(name("|tojson"), [{ ...node }]),
  "|length": (_, [operand]) => filtered(operand, "length"),
  "|upper": (_, [operand]) => filtered(asText([operand]), "upper"),
  "|lower": (_, [operand]) => filtered(asText([operand]), "lower"),
  ".items": (_, [object]) => filtered(object, "items"),
  ".keys": (_, [object]) => filtered(object, "keys"),
  ".values": (_, [object]) => filtered(object, "values"),
  "%": (_, [dividend, divisor]) => binary(binary(binary(dividend, "%", divisor), "+", divisor), "%", divisor),
  "is iterable": ({ negate }, [operand]) => {
    const either = binary(test(operand, "sequence"), "or", test(operand, "undefined"))
    return negate === true ? { type: "UnaryExpression", operator: { value: "not" }, argument: either } : either
  },
  "|join": (node, [operand]) => {
    const [separator, attribute] = argumentsOf(node["filter"], ["d", "attribute"])
    const key = { type: "Identifier", value: "attribute" }
    const named = { type: "KeywordArgumentExpression", key, value: attribute }
    return applied(attribute === undefined ? operand : applied(operand, "map", [named]), "join", given([separator]))
  }
}

/** Where a node has statements, among which are the expressions that it writes. */
const blocks = ["body", "alternate", "defaultBlock"]

const statements: ReadonlySet<unknown> = new Set([
  "Program",
  "If",
  "For",
  "Break",
  "Continue",
  "Set",
  "Macro",
  "Comment",
  "CallStatement",
  "FilterStatement"
])

/** A block whose expressions are written as in Python. */
const written = (block: ReadonlyArray<Node>): ReadonlyArray<Node> =>
  block.map((node) => (statements.has(node["type"]) || isText(node) ? node : asText([node])))

/** A loop, of no turn over what is undefined. */
const loopOf = (node: Node): Node => {
  const orEmpty = (iterable: unknown) => applied(iterable, "default", [{ type: "ArrayLiteral", value: [] }])
  const iterable = node["iterable"] as Node
  const { lhs, type } = iterable
  return {
    ...(TemplateLoops.whole(node) ?? node),
    iterable: type === "SelectExpression" ? { ...iterable, lhs: orEmpty(lhs) } : orEmpty(iterable)
  }
}

/** The node that says in the library what a node says in Python; undefined where it is the same. */
const inOtherWords = (node: Node): Node | undefined => {
  if (node["type"] === "For") return loopOf(node)
  const [operation = "", operands = []] = operationOf(node) ?? []
  // What is known as a text neither before nor after may be numbers or lists, which the library adds as Python does.
  if (operation === "+" && !operands.some(isText)) return undefined
  if (Object.hasOwn(rephrased, operation)) return rephrased[operation]!(node, operands)
  return Object.hasOwn(functions, operation) ? call(name(operation), operands) : undefined
}

/** Changes the operations in a parsed template, in place. */
export const rewrite = (node: unknown): void => {
  if (Array.isArray(node)) return node.forEach(rewrite)
  if (node instanceof Map) return rewrite([...node])
  if (!Predicate.isObject(node)) return
  Object.values(node).forEach(rewrite)
  for (const [key, block] of Object.entries(node)) {
    if (blocks.includes(key) && Array.isArray(block)) Object.assign(node, { [key]: written(block) })
  }
  const other = inOtherWords(node as Node)
  if (other !== undefined) Object.assign(node, other)
}
