/**
 * TrlShape: what a row of TRL's is, by the columns that it has.
 *
 * @internal
 */
import { Result } from "effect"
import type { Finish, Message } from "../Policy.ts"
import * as HhRlhf from "./HhRlhf.ts"
import * as Messages from "./Messages.ts"
import type * as Rows from "./Rows.ts"
import * as TemplateColumns from "./TemplateColumns.ts"

/** Texts, or messages. */
export type Form = "standard" | "conversational"

/** A text, or messages. */
export type Turns = string | ReadonlyArray<Message>

type Shape =
  | { readonly text: string }
  | { readonly messages: ReadonlyArray<Message> }
  | { readonly prompt: Turns }
  | { readonly prompt: Turns; readonly completion: Turns }
  | { readonly prompt?: Turns; readonly chosen: Turns; readonly rejected: Turns; readonly margin?: number }
  | { readonly prompt: Turns; readonly completion: Turns; readonly label: boolean }

/** Whether the answer to learn from ended or was cut off, as `charter generate` writes it, too. */
export interface Finished {
  readonly finish?: Finish
}

/** A row in any of the six shapes. */
export type Row = Shape & TemplateColumns.TemplateColumns & Finished

const shapes: ReadonlyArray<ReadonlyArray<string>> = [
  ["prompt", "chosen", "rejected"],
  ["chosen", "rejected"],
  ["prompt", "completion", "label"],
  ["prompt", "completion"],
  ["messages"],
  ["text"],
  ["prompt"]
]

const turns = ["prompt", "completion", "chosen", "rejected"]

const problem = (name: string, value: unknown): string | undefined => {
  if (name === "text") return typeof value === "string" ? undefined : "`text` is not text"
  if (name === "label") return typeof value === "boolean" ? undefined : "`label` is neither true nor false"
  if (name === "prompt" && Array.isArray(value) && value.length === 0) return "`prompt` has no messages"
  return name !== "messages" && typeof value === "string" ? undefined : Messages.problem(name, value)
}

/**
 * The columns of a row that make its shape. A prompt as text beside answers as messages, or the other way round, tells
 * what these begin with once more, as in `cai-conversation-harmless`: the answers alone count, as in TRL.
 */
const shapeOf = (row: Rows.Row): ReadonlyArray<string> | undefined => {
  const shape = shapes.find((names) => names.every((name) => row[name] !== undefined && row[name] !== null))
  const { chosen, prompt } = row
  const other = typeof prompt === "string" ? Array.isArray(chosen) : Array.isArray(prompt) && typeof chosen === "string"
  return other && shape?.includes("chosen") === true ? ["chosen", "rejected"] : shape
}

/** Names under which published sets have the prompt of two answers, none of which is TRL's. */
const otherPrompts = ["question", "instruction", "query", "input"]

/**
 * A column that is the prompt by all appearances, of a row whose shape has none: with what the answers happen to begin
 * with in its place, they would be learnt as answers to nothing.
 */
const otherPrompt = (row: Rows.Row, shape: ReadonlyArray<string>): string | undefined =>
  shape.includes("prompt") || typeof row["chosen"] !== "string" || HhRlhf.isTranscript(row["chosen"])
    ? undefined
    : otherPrompts.find((name) => typeof row[name] === "string" && row[name] !== "")

/** The row of one of the shapes, or why it is none; other columns are left out. */
export const decode = (row: Rows.Row): Result.Result<Row, string> => {
  const shape = shapeOf(row)
  if (shape === undefined) {
    return Result.fail("none of the shapes: text; messages; prompt (completion (label)); (prompt) chosen rejected")
  }
  const wrong = shape.map((name) => problem(name, row[name])).find((found) => found !== undefined)
  if (wrong !== undefined) return Result.fail(wrong)
  const mixed = new Set(shape.filter((name) => turns.includes(name)).map((name) => typeof row[name])).size > 1
  if (mixed) return Result.fail("some of its columns are texts and some messages")
  const column = otherPrompt(row, shape)
  if (column !== undefined) return Result.fail(`the prompt is in \`${column}\`, which is not read; name it \`prompt\``)
  const margin = shape.includes("chosen") ? (row["margin"] ?? undefined) : undefined
  if (margin !== undefined && (typeof margin !== "number" || !Number.isFinite(margin))) {
    return Result.fail("`margin` is not a finite number")
  }
  const worded = (value: unknown) => (Array.isArray(value) ? Messages.worded(value) : value)
  const kept = Object.fromEntries(shape.map((name) => [name, worded(row[name])]))
  const conversational = shape.some((name) => Array.isArray(row[name]))
  return Result.map(TemplateColumns.decode(row, conversational), (given) => {
    const finish = finishOf(row["finish"])
    return { ...kept, ...(margin === undefined ? {} : { margin }), ...finish, ...given } as unknown as Row
  })
}

/** The `finish` of a row or a record, where it has one. */
export const finishOf = (finish: unknown): Finished => (finish === "length" || finish === "stop" ? { finish } : {})
