/**
 * Records: the logs of a run folder, and the keys by which their records are found again.
 *
 * A key names a record's place (prompt, sample, round) and not its content, so that it is known before the record is. A
 * prompt that was edited under the same id is another place.
 */
import { Effect, Schema } from "effect"
import * as Sample from "../Sample.ts"
import { Run } from "./Run.ts"

/** The key of an answer. */
export const answerKey = (prompt: Sample.Prompt, index: number): string => `${Sample.identity(prompt)}/${index}`

/** The key of a critique or a revision. */
export const roundKey = (response: Sample.Response, round: number): string =>
  `${answerKey(response.prompt, response.index)}/${round}`

/** The key of a comparison and of its preference. */
export const pairKey = ({ prompt, first, second }: Sample.Comparison): string =>
  `${answerKey(prompt, first.index)}/${second.index}`

/** The key of a rollout and of its reward. */
export const rolloutKey = (iteration: number, prompt: Sample.Prompt, index: number): string =>
  `${iteration}/${answerKey(prompt, index)}`

/** Answers in a file; those of a file `like` it are taken over. */
export const answers = Effect.fnUntraced(function* (file: string, like?: string) {
  const run = yield* Run
  return yield* run.log(file, Sample.Response, ({ prompt, index }) => answerKey(prompt, index), like)
})

/** Answers with their critiques and revisions, in a folder; those of a folder `like` it are taken over. */
export const revisions = Effect.fnUntraced(function* (dir: string, like?: string) {
  const run = yield* Run
  const of = (file: string) => [`${dir}/${file}`, like === undefined ? undefined : `${like}/${file}`] as const
  const [critiques, likeCritiques] = of("critiques.jsonl")
  const [revisions, likeRevisions] = of("revisions.jsonl")
  return {
    responses: yield* answers(...of("responses.jsonl")),
    critiques: yield* run.log(
      critiques,
      Sample.Critique,
      ({ response, round }) => roundKey(response, round),
      likeCritiques
    ),
    revisions: yield* run.log(
      revisions,
      Sample.Revision,
      ({ critique, round }) => roundKey(critique.response, round),
      likeRevisions
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
  const log = yield* run.log(file, Schema.Record(Schema.String, Schema.Number), (row) => String(row[key]))
  return {
    ...log,
    // The same step has the same numbers in every run, but for what the clock says of it.
    append: (row: Readonly<Record<string, number>>) =>
      log.append(Object.fromEntries(Object.entries(row).filter(([name]) => !/(^|_)seconds?$/.test(name))))
  }
})

/** Scores of the reward model, by what they are of. */
export const scores = Effect.fnUntraced(function* (file: string) {
  const run = yield* Run
  return yield* run.log(file, Schema.Struct({ id: Schema.String, score: Schema.Number }), ({ id }) => id)
})
