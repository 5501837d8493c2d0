/**
 * Records: the logs of a run folder, and the keys by which their records are found again.
 *
 * A key names a record's place (prompt, sample, round) and not its content, so that it is known before the record is.
 */
import { Effect, Schema } from "effect"
import * as Sample from "../Sample.ts"
import { Run } from "./Run.ts"

/** The key of an answer. */
export const answerKey = (prompt: Sample.Prompt, index: number): string => `${prompt.id}/${index}`

/** The key of a critique or a revision. */
export const roundKey = (response: Sample.Response, round: number): string =>
  `${answerKey(response.prompt, response.index)}/${round}`

/** The key of a comparison and of its preference. */
export const pairKey = ({ prompt, first, second }: Sample.Comparison): string =>
  `${prompt.id}/${first.index}/${second.index}`

/** The key of a rollout and of its reward. */
export const rolloutKey = (iteration: number, prompt: Sample.Prompt, index: number): string =>
  `${iteration}/${prompt.id}/${index}`

/** Answers in a file. */
export const answers = Effect.fnUntraced(function* (file: string) {
  const run = yield* Run
  return yield* run.log(file, Sample.Response, ({ prompt, index }) => answerKey(prompt, index))
})

/** Answers with their critiques and revisions, in a folder. */
export const revisions = Effect.fnUntraced(function* (dir: string) {
  const run = yield* Run
  return {
    responses: yield* answers(`${dir}/responses.jsonl`),
    critiques: yield* run.log(`${dir}/critiques.jsonl`, Sample.Critique, ({ response, round }) =>
      roundKey(response, round)
    ),
    revisions: yield* run.log(`${dir}/revisions.jsonl`, Sample.Revision, ({ critique, round }) =>
      roundKey(critique.response, round)
    )
  }
})

/** Pairs of answers with their soft labels. */
export const preferences = Effect.gen(function* () {
  const run = yield* Run
  return {
    pairs: yield* run.log("preferences/pairs.jsonl", Sample.Comparison, pairKey),
    preferences: yield* run.log("preferences/preferences.jsonl", Sample.Preference, ({ comparison }) =>
      pairKey(comparison)
    )
  }
})

/** Rollouts with their rewards. */
export const rollouts = Effect.gen(function* () {
  const run = yield* Run
  return yield* run.log("policy/rollouts.jsonl", Sample.Reward, ({ rollout: { iteration, prompt, index } }) =>
    rolloutKey(iteration, prompt, index)
  )
})

/** Numbers of a training, one line a step. */
export const metrics = Effect.fnUntraced(function* (file: string, key: "step" | "iteration") {
  const run = yield* Run
  return yield* run.log(file, Schema.Record(Schema.String, Schema.Number), (row) => String(row[key]))
})

/** Scores of the reward model, by what they are of. */
export const scores = Effect.fnUntraced(function* (file: string) {
  const run = yield* Run
  return yield* run.log(file, Schema.Struct({ id: Schema.String, score: Schema.Number }), ({ id }) => id)
})
