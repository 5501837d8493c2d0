/**
 * Messages: whether a row's value is a conversation, and the message and the field that make it none.
 *
 * @internal
 */
import { Result } from "effect"
import { Message } from "../Policy.ts"
import * as Rows from "./Rows.ts"

const roles: ReadonlyArray<unknown> = Message.fields.role.literals

/** What is wrong with the message of this name, if there is something. */
const wrong = (name: string, message: unknown): string | undefined => {
  if (!Rows.isRow(message)) return `${name} is no {role, content}`
  const { content, role } = message
  if (role === undefined || role === null) return `${name} has no \`role\``
  if (!roles.includes(role))
    return `${name} has the role ${JSON.stringify(role).slice(0, 40)}; known are ${roles.join(", ")}`
  if (content === undefined || content === null) return `${name} has no \`content\``
  if (Array.isArray(content)) return `${name} has a list of parts as its \`content\`, which has to be text`
  return typeof content === "string" ? undefined : `${name} has a \`content\` that is not text`
}

/** Why the value of a column is no list of messages; undefined where it is one. */
export const problem = (column: string, value: unknown): string | undefined => {
  if (Array.isArray(value)) {
    return value
      .map((message, i) => wrong(`message ${i + 1} of \`${column}\``, message))
      .find((one) => one !== undefined)
  }
  // Every other column may have text as well.
  return `\`${column}\` is ${column === "messages" ? "not" : "neither text nor"} [{role, content}]`
}

/** The messages of a column, or why there are none. */
export const decode = (column: string, value: unknown): Result.Result<ReadonlyArray<Message>, string> => {
  const reason = problem(column, value)
  return reason === undefined ? Result.succeed(value as ReadonlyArray<Message>) : Result.fail(reason)
}
