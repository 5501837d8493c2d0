/**
 * ModelRows: what a row gives a model to read, in the shapes that every command over a model takes.
 *
 * - `{input_ids}`: token ids; they need no tokenizer
 * - `{prompt, completion}`: texts or messages; what is asked about is the completion
 * - `{messages}`: a conversation; what is asked about is its last message, the assistant's
 * - `{text}`: a text
 * - `{prompt}`: a text or messages to continue
 *
 * Of several shapes, the first of these that the command takes. A conversation may have `tools` and
 * `chat_template_kwargs` (`TemplateColumns.ts`); other columns are left out. `cli/TokenRows.ts` makes tokens of them and
 * `cli/RowFile.ts` answers a file of them in order; `charter score`, `charter generate` and `charter train` share all
 * three.
 */
import { Result } from "effect"
import * as Rows from "./Rows.ts"
import * as Trl from "./Trl.ts"

/** What a row gives to read. */
export type Input =
  | { readonly _tag: "ids"; readonly ids: ReadonlyArray<number> }
  | { readonly _tag: "text"; readonly text: string }
  | ({ readonly _tag: "prompt" } & Trl.Asked)
  /** An answer that is a message is a whole turn of a conversation, which has an end; a text may go on. */
  | ({ readonly _tag: "completion" } & Trl.Answered)

/** What is asked, in the columns that a row has for it. */
export const asked = (row: Trl.Asked): Trl.Asked => Trl.ask(row.prompt, row)

/** A row with its place. */
export interface ModelRow {
  /** The row's own `id`, a text or a number, or else its line. */
  readonly id: string | number
  /** From 1. */
  readonly line: number
  readonly input: Input
}

const isIds = (value: unknown): value is ReadonlyArray<number> =>
  Array.isArray(value) && value.every((id) => Number.isSafeInteger(id))

/** The columns that make a row's shape, in the order in which they count, and what they give to read. */
const shapes: ReadonlyArray<readonly [column: string, tag: Input["_tag"]]> = [
  ["messages", "completion"],
  ["text", "text"],
  ["prompt", "prompt"]
]

const inputOf = (row: Rows.Row, taken: ReadonlyArray<Input["_tag"]>): Result.Result<Input, string> => {
  const ids = row["input_ids"] ?? undefined
  if (ids !== undefined) {
    return isIds(ids) ? Result.succeed({ _tag: "ids", ids }) : Result.fail("`input_ids` is not a list of whole numbers")
  }
  const has = (column: string) => (row[column] ?? undefined) !== undefined
  // A file of conversations often has their prompts beside them: of both, the one that the command takes.
  const present = shapes.filter(([column]) => has(column))
  const shape = has("completion") ? "completion" : (present.find(([, tag]) => taken.includes(tag)) ?? present[0])?.[0]
  if (shape === undefined || (shape === "completion" && !has("prompt"))) {
    return Result.fail("none of the shapes: text; input_ids; messages; prompt with completion; prompt")
  }
  // What the command does not take is no matter of how well it is formed.
  const tag = shapes.find(([column]) => column === shape)?.[1] ?? "completion"
  if (!taken.includes(tag)) return Result.fail(untaken(tag, taken))
  const named =
    shape === "completion" ? { prompt: row["prompt"], completion: row["completion"] } : { [shape]: row[shape] }
  const { chat_template_kwargs, tools } = row
  return Result.flatMap(
    Trl.decode({ ...named, chat_template_kwargs, tools }),
    (found): Result.Result<Input, string> => {
      if ("text" in found) return Result.succeed({ _tag: "text", text: found.text })
      if (tag === "prompt") return Result.succeed({ _tag: "prompt", ...(found as Trl.Asked) })
      return Result.map(Trl.answered(found), (answered) => ({ _tag: "completion", ...answered }))
    }
  )
}

const untaken = (tag: Input["_tag"], taken: ReadonlyArray<Input["_tag"]>): string =>
  `a row with ${shapeOf[tag]}; this command takes ${taken.map((t) => shapeOf[t]).join("; ")}`

/** What a row gives to read, or why it gives nothing; one of the shapes that are taken here. */
export const decode =
  (taken: ReadonlyArray<Input["_tag"]>) =>
  ({ line, row }: Rows.Entry): Result.Result<ModelRow, string> => {
    const id = row["id"] ?? line
    if (typeof id !== "string" && typeof id !== "number") return Result.fail("`id` is neither text nor a number")
    if (typeof id === "number" && !Rows.isExact(id)) return Result.fail(Rows.inexactId(id))
    return Result.flatMap(inputOf(row, taken), (input) =>
      taken.includes(input._tag) ? Result.succeed({ id, line, input }) : Result.fail(untaken(input._tag, taken))
    )
  }

const shapeOf: Readonly<Record<Input["_tag"], string>> = {
  ids: "input_ids",
  text: "text",
  prompt: "a prompt alone",
  completion: "prompt and completion, or messages"
}
