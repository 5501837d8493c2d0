/**
 * CaiConversations: the Parquet files of the published data set `cai-conversation-harmless`, both ways, with exactly
 * its columns. The names of its splits are {@link splits}.
 */
import { Effect, Result, Schema, Stream } from "effect"
import type { FileSystem } from "effect"
import { Message } from "../Policy.ts"
import * as Sample from "../Sample.ts"
import type { DataError, Reject } from "./DataError.ts"
import * as Parquet from "./Parquet.ts"
import * as Rows from "./Rows.ts"

const turns = { list: { struct: { content: "string", role: "string" } } } as const

/** The columns, in their order. */
export const columns = {
  init_prompt: "string",
  init_response: "string",
  critic_prompt: "string",
  critic_response: "string",
  revision_prompt: "string",
  revision_response: "string",
  prompt: "string",
  messages: turns,
  chosen: turns,
  rejected: turns
} as const satisfies Parquet.Columns

/** The splits of the data set; a file of it is named `{split}-00000-of-00001.parquet`. */
export const splits = ["train_sft", "train_prefs", "test_sft", "test_prefs"] as const

const Turns = Schema.Array(Message)

/** A row of the data set. */
export const Row = Schema.Struct({
  init_prompt: Schema.String,
  init_response: Schema.String,
  critic_prompt: Schema.String,
  critic_response: Schema.String,
  revision_prompt: Schema.String,
  revision_response: Schema.String,
  prompt: Schema.String,
  messages: Turns,
  chosen: Turns,
  rejected: Turns
})
export type Row = typeof Row.Type

const turn = ({ role, content }: Message): Message => ({ content, role })

/** A revision as a row: the revised answer is the chosen one, the answer under critique the rejected one. */
export const fromRevision = ({ critique, request, text }: Sample.Revision): Row => {
  const { prompt, text: answer } = critique.response
  const conversation = prompt.messages.map(turn)
  const revised = [...conversation, turn({ role: "assistant", content: text })]
  return {
    init_prompt: prompt.text,
    init_response: answer,
    critic_prompt: critique.request,
    critic_response: critique.text,
    revision_prompt: request,
    revision_response: text,
    prompt: prompt.text,
    messages: revised,
    chosen: revised,
    rejected: [...conversation, turn({ role: "assistant", content: answer })]
  }
}

/** A row as a revision of the first round; the principle is named by its requests, the model by `model`. */
export const toRevision =
  (model = "cai-conversation-harmless") =>
  (row: Row): Result.Result<Sample.Revision, string> => {
    const conversation = row.chosen.slice(0, row.chosen.at(-1)?.role === "assistant" ? -1 : undefined)
    if (conversation.at(-1)?.role !== "user") return Result.fail("`chosen` is not a prompt with its answer")
    const prompt = Sample.prompt(conversation)
    const response = Sample.response({ prompt, text: row.init_response, model, seed: 0, index: 0 })
    const critique = Sample.critique({
      response,
      principle: Sample.id("principle", row.critic_prompt, row.revision_prompt),
      request: row.critic_prompt,
      text: row.critic_response,
      round: 1,
      model
    })
    const { revision_prompt: request, revision_response: text } = row
    return Result.succeed(Sample.revision({ critique, request, text, round: 1, model }))
  }

/** The rows of a file. */
export const read = (file: string): Stream.Stream<Result.Result<Row, Reject>, DataError, FileSystem.FileSystem> =>
  Parquet.read(file).pipe(Rows.decode(file, Rows.schema(Row)))

/** Writes rows to a file. */
export const write =
  (file: string) =>
  <E, R>(rows: Stream.Stream<Row, E, R>): Effect.Effect<void, E | DataError, R | FileSystem.FileSystem> =>
    rows.pipe(Parquet.write(file, columns))
