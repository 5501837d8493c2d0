/**
 * RolloutLog: the sampled answers of a training with their rewards, one line each, all of an update at once.
 *
 * Answers of an update that was not finished are used again; those beyond it are cut off.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import { closeSync, openSync } from "node:fs"
import type { RunError } from "../recipes/RunError.ts"
import * as Attempt from "./Attempt.ts"
import * as StepLines from "./StepLines.ts"
import type { UsageError } from "./UsageError.ts"

const Numbers = Schema.Array(Schema.Finite)

/** An answer with its reward. */
export const Rollout = Schema.Struct({
  step: Schema.Int,
  id: Schema.String,
  promptIds: Numbers,
  tokenIds: Numbers,
  logprobs: Numbers,
  finish: Schema.Literals(["stop", "length"]),
  /** What the reward model says. */
  score: Schema.Finite,
  /** What is learnt from: within bounds, and less for an answer without an end. */
  reward: Schema.Finite,
  text: Schema.optionalKey(Schema.String)
})
export type Rollout = typeof Rollout.Type

export interface RolloutLog {
  readonly of: (step: number) => ReadonlyArray<Rollout>
  readonly append: (rollouts: ReadonlyArray<Rollout>) => Effect.Effect<void, RunError>
}

/** Opens the log of a training that has finished so many updates, for as long as the scope lasts. */
export const open = Effect.fnUntraced(function* (
  file: string,
  finished: number
): Effect.fn.Return<RolloutLog, RunError | UsageError, Scope.Scope> {
  const isRollout = Schema.is(Rollout)
  // Nobody reads the answers of finished updates again.
  const isWhole = (value: unknown): value is StepLines.Stepped =>
    StepLines.isStepped(value) && (value.step <= finished || isRollout(value))
  const isNext = (value: StepLines.Stepped): value is Rollout => value.step === finished + 1
  const next = yield* StepLines.resume(file, finished, isWhole, isNext)
  const fd = yield* Effect.acquireRelease(
    Attempt.write(file, () => openSync(file, "a")),
    (fd) => Effect.sync(() => closeSync(fd))
  )
  return {
    of: (step) => (step === finished + 1 ? next : []),
    append: (rollouts) => StepLines.append(file, fd, rollouts)
  }
})
