/**
 * TemplateLoops: `{% continue %}` and `{% break %}` of a chat template, said without them.
 *
 * The library leaves a turn of a loop with all that the turn has written. So each of them becomes a variable, and what
 * follows in the turn is under the condition that it is not set.
 */
import { Predicate } from "effect"

/** A part of a parsed template. */
type Node = Readonly<Record<string, unknown>>

/** Variables of a loop: that this turn is left, and that no other one begins. */
const [left, ended] = ["python_left", "python_ended"]

const variable = (name: string): Node => ({ type: "Identifier", value: name })

const assign = (name: string, value: 0 | 1): Node => ({
  type: "Set",
  assignee: variable(name),
  value: { type: "IntegerLiteral", value },
  body: []
})

const unless = (name: string, body: ReadonlyArray<Node>): Node => ({
  type: "If",
  test: { type: "UnaryExpression", operator: { value: "not" }, argument: variable(name) },
  body,
  alternate: []
})

/** The statements of a block; a condition has two. */
const block = (statement: Node, name: "body" | "alternate"): ReadonlyArray<Node> =>
  Array.isArray(statement[name]) ? statement[name].filter((node): node is Node => Predicate.isObject(node)) : []

const isExit = ({ type }: Node): boolean => type === "Continue" || type === "Break"

/** Whether a turn may be left within a statement. */
const leaves = (statement: Node): boolean =>
  isExit(statement) ||
  (statement["type"] === "If" && [...block(statement, "body"), ...block(statement, "alternate")].some(leaves))

/** Statements of a turn that are followed by nothing once it is left. */
const flowing = (statements: ReadonlyArray<Node>): ReadonlyArray<Node> => {
  const at = statements.findIndex(leaves)
  if (at < 0) return statements
  const [before, statement, after] = [statements.slice(0, at), statements[at]!, statements.slice(at + 1)]
  if (isExit(statement)) {
    return [...before, assign(left, 1), ...(statement["type"] === "Break" ? [assign(ended, 1)] : [])]
  }
  const [body, alternate] = [flowing(block(statement, "body")), flowing(block(statement, "alternate"))]
  return [...before, { ...statement, body, alternate }, ...(after.length === 0 ? [] : [unless(left, flowing(after))])]
}

/** The loop without them; undefined where it has none. */
export const whole = (loop: Node): Node | undefined => {
  const body = block(loop, "body")
  return body.some(leaves) ? { ...loop, body: [unless(ended, [assign(left, 0), ...flowing(body)])] } : undefined
}
