/**
 * Published: the sampled chains of answer, critiques and revisions that were published with the paper (Bai et al. 2022,
 * arXiv 2212.08073): JSONL with `rl_prompt`, `initial_response` and `cst`, one element a round.
 */
import { Result, Schema, Stream } from "effect"
import type { Effect, FileSystem } from "effect"
import * as Sample from "../Sample.ts"
import { humanAssistant } from "../Transcript.ts"
import type { DataError, Reject } from "./DataError.ts"
import * as HhRlhf from "./HhRlhf.ts"
import * as Jsonl from "./Jsonl.ts"
import * as Rows from "./Rows.ts"

const Sampled = Schema.Struct({ sample: Schema.String })

/** One round under one principle, whose requests stand in `cst_value` with their markers. */
export const Round = Schema.Struct({
  cst_key: Schema.String,
  cst_value: Schema.Struct({ prompt: Schema.Array(Schema.String), edit_request: Schema.String }),
  critique: Sampled,
  revision: Sampled
})
export type Round = typeof Round.Type

/** A row: a chain. */
export const Row = Schema.Struct({
  rl_prompt: Schema.String,
  comparison_dataset: Schema.optionalKey(Schema.String),
  cst: Schema.Array(Round),
  initial_response: Schema.Array(Sampled)
})
export type Row = typeof Row.Type

/** A request without the markers around it. */
const request = (text: string): string => text.replace(/^\s*\w+Request:|(Critique|Revision):\s*$/g, "").trim()

/** The revisions of a chain, round after round; `model` is the name that its samples carry. */
export const toRevisions =
  (model = "published") =>
  (row: Row): Result.Result<ReadonlyArray<Sample.Revision>, string> => {
    const messages = HhRlhf.messages(row.rl_prompt)
    const initial = row.initial_response[0]
    if (messages.at(-1)?.role !== "user") return Result.fail("`rl_prompt` does not end with a turn of the human")
    if (initial === undefined) return Result.fail("`initial_response` is empty")
    const prompt = Sample.prompt(messages)
    let response = Sample.response({ prompt, text: initial.sample.trim(), model, seed: 0, index: 0 })
    const revisions: Array<Sample.Revision> = []
    for (const [i, { cst_key, cst_value, critique: found, revision: rewritten }] of row.cst.entries()) {
      const round = i + 1
      const critique = Sample.critique({
        response,
        principle: cst_key,
        request: request(cst_value.prompt[0] ?? ""),
        text: found.sample.trim(),
        round,
        model
      })
      const text = rewritten.sample.trim()
      const revision = Sample.revision({ critique, request: request(cst_value.edit_request), text, round, model })
      revisions.push(revision)
      response = Sample.revised(revision)
    }
    return Result.succeed(revisions)
  }

/** The rounds of one prompt, in their order, as a row; undefined when there are none. */
export const fromRevisions = (revisions: ReadonlyArray<Sample.Revision>): Row | undefined => {
  const [first] = revisions
  if (first === undefined) return undefined
  const { prompt, text } = first.critique.response
  return {
    rl_prompt: humanAssistant.response(prompt).context,
    initial_response: [{ sample: ` ${text}` }],
    cst: revisions.map(({ critique, request: asked, text: revised }) => ({
      cst_key: critique.principle,
      cst_value: {
        prompt: [`\n\nCritiqueRequest: ${critique.request}\n\nCritique:`],
        edit_request: `\n\nRevisionRequest: ${asked}\n\nRevision:`
      },
      critique: { sample: ` ${critique.text}` },
      revision: { sample: ` ${revised}` }
    }))
  }
}

/** The chains of a file. */
export const read = (file: string): Stream.Stream<Result.Result<Row, Reject>, DataError, FileSystem.FileSystem> =>
  Jsonl.read(file).pipe(Rows.decode(file, Rows.schema(Row)))

/** Writes chains to a file. */
export const write = (
  file: string
): (<E, R>(rows: Stream.Stream<Row, E, R>) => Effect.Effect<void, E | DataError, R | FileSystem.FileSystem>) =>
  Jsonl.write(file)
