/**
 * Messages: whether a row's value is a conversation, and the message and the field that make it none; and what a message
 * says beside its text.
 *
 * @internal
 */
import { Equal, Result } from "effect"
import { Message } from "../Policy.ts"
import * as Rows from "./Rows.ts"

const roles: ReadonlyArray<unknown> = Message.fields.role.literals

/** Where a message says more than its `content`: names for what was thought before it, and for the tools it calls. */
const besides = [
  ["reasoning_content", "thinking", "reasoning"],
  ["tool_calls", "function_call"]
]

const isBlank = (value: unknown): boolean =>
  typeof value === "string" ? ["", "[]", "{}", "null"].includes(value.trim()) : !value

/**
 * Whether a field says nothing: Parquet has every field in every message. Not recursive: what is read may be nested
 * deeply.
 */
const isNothing = (value: unknown): boolean => {
  const rest = [value]
  while (rest.length > 0) {
    const next = rest.pop()
    if (typeof next === "object" && next !== null) for (const inner of Object.values(next)) rest.push(inner)
    else if (!isBlank(next)) return false
  }
  return true
}

/** The fields in which a message says more than its `content`, one for the thoughts and one for the calls. */
export const more = (message: Message | Rows.Row): ReadonlyArray<string> =>
  besides.flatMap((names) => names.find((name) => !isNothing((message as Rows.Row)[name])) ?? [])

/** The message without a field, and without the others of which it is another name. */
export const without = (message: Message, field: string): Message => {
  const names = besides.find((some) => some.includes(field)) ?? [field]
  return Object.fromEntries(Object.entries(message).filter(([name]) => !names.includes(name))) as unknown as Message
}

/** Whether two values are certainly the same; of what is nested too deeply to be compared nothing is certain. */
const equal = (a: unknown, b: unknown): boolean => {
  try {
    return Equal.equals(a, b)
  } catch {
    return false
  }
}

/** Whether two messages say the same, whatever else they have. */
export const same = (a: Message, b: Message): boolean =>
  a.role === b.role &&
  a.content === b.content &&
  besides.flat().every((name) => {
    const [one, other] = [(a as Rows.Row)[name], (b as Rows.Row)[name]]
    return (isNothing(one) && isNothing(other)) || equal(one, other)
  })

/** Whether a message without text has calls of tools in its place, as OpenAI's have. */
const isCall = (message: Rows.Row): boolean => message["role"] === "assistant" && more(message).length > 0

/** What is wrong with the message of this name, if there is something. */
const wrong = (name: string, message: unknown): string | undefined => {
  if (!Rows.isRow(message)) return `${name} is no {role, content}`
  const { content, role } = message
  if (role === undefined || role === null) return `${name} has no \`role\``
  if (!roles.includes(role))
    return `${name} has the role ${JSON.stringify(role).slice(0, 40)}; known are ${roles.join(", ")}`
  if (content === null && isCall(message)) return undefined
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

/** Messages of which each has a text, if only an empty one. */
export const worded = (messages: ReadonlyArray<Message>): ReadonlyArray<Message> =>
  messages.map((message) => ((message.content as unknown) === null ? { ...message, content: "" } : message))

/** The messages of a column, or why there are none. */
export const decode = (column: string, value: unknown): Result.Result<ReadonlyArray<Message>, string> => {
  const reason = problem(column, value)
  return reason === undefined ? Result.succeed(worded(value as ReadonlyArray<Message>)) : Result.fail(reason)
}
