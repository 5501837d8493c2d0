/**
 * Scores: a reward model with a memory: one score for an answer, over all starts of the run.
 */
import { Effect } from "effect"
import type { RewardModel } from "../RewardModel.ts"
import type * as Sample from "../Sample.ts"
import * as Transcript from "../Transcript.ts"
import { orRejected } from "./Recorded.ts"
import * as Records from "./Records.ts"

/** An answer to be scored. */
export interface Scored {
  readonly id: string
  readonly prompt: Sample.Prompt
  readonly text: string
}

/** The scores of a file; undefined is the score of an answer that the reward model cannot score. */
export const make = Effect.fnUntraced(function* (file: string, rewardModel: RewardModel["Service"]) {
  const transcript = yield* Transcript.Transcript
  const log = yield* Records.scores(file)
  const score = Effect.fnUntraced(function* ({ id, prompt, text }: Scored) {
    const before = yield* log.find(id)
    if (before !== undefined) return before.score
    if (yield* log.isRejected("score", id)) return undefined
    const { context } = transcript.response(prompt)
    const made = yield* rewardModel
      .score({ id, context, completion: transcript.completion(text) })
      .pipe(orRejected(log, "score", id))
    if (made !== undefined) yield* log.append({ id, score: made })
    return made
  })
  // The same text may be the answer of several models: scores have no order of their own but that of their ids.
  const settle = Effect.suspend(() => {
    const ids = log.values().map(({ id }) => id)
    return log.settle(ids.toSorted((a, b) => (a < b ? -1 : 1)))
  })
  return { score, settle }
})
