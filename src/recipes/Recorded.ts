/**
 * Recorded: a stage whose records are kept in the run folder, and which asks only for what is not there yet.
 *
 * A sample that fails for good lands in `rejected.jsonl` and the stream goes on. A failure that says nothing about the
 * sample (a model that is gone, a key that is not accepted, a budget that is spent) ends the run, which can then be
 * resumed.
 */
import { Effect, Option, Predicate, Stream } from "effect"
import { AiError } from "effect/ai"
import * as Stage from "../Stage.ts"
import { Progress } from "./Progress.ts"
import type { Records } from "./Run.ts"
import type { RunError } from "./RunError.ts"

/** How a stage is recorded. */
export interface Options<A, B> {
  readonly log: Records<B>
  /** The key that the record of a sample will have. */
  readonly key: (sample: A) => string
  readonly concurrency: number
}

/** A stage of one record a sample, recorded. Records come in the order in which they are ready. */
export const recorded =
  <A extends { readonly id: string }, B>(name: string, { log, key, concurrency }: Options<A, B>) =>
  <E, R>(stage: Stage.Stage<A, B, E, R>): Stage.Stage<A, B, E | RunError, R> => {
    const work = Effect.fnUntraced(function* (sample: A) {
      const progress = yield* Progress
      const at = key(sample)
      const before = yield* log.find(at)
      if (before !== undefined || (yield* log.isRejected(name, at))) {
        yield* progress.advance({ reused: true })
        return before
      }
      const made = yield* Stream.succeed(sample).pipe(
        stage,
        Stream.runHead,
        Effect.map(Option.getOrUndefined),
        orRejected(log, name, at)
      )
      if (made !== undefined) yield* log.append(made)
      yield* progress.advance()
      return made
    })
    return Stage.from((samples) =>
      samples.pipe(
        // One by one: a slow sample must not hold back those that came in the same chunk.
        Stream.rechunk(1),
        Stream.mapEffect(work, { concurrency, unordered: true }),
        Stream.filter((made) => made !== undefined)
      )
    )
  }

/** What is made for a place, or undefined where that fails for good: the failure is noted, and not tried again. */
export const orRejected =
  <B>(log: Records<B>, stage: string, at: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A | undefined, E | RunError, R> =>
    Effect.catch(self, (error): Effect.Effect<undefined, E | RunError> =>
      isOfTheSample(error)
        ? Effect.as(log.reject(stage, at, Stage.reasonOf(error).message), undefined)
        : Effect.fail(error)
    )

/** Whether a failure is about the sample: the same request would fail again, and another one would not. */
const isOfTheSample = (error: unknown): boolean => {
  if (AiError.isAiError(error)) return !error.isRetryable && !isOfEveryRequest(error.reason)
  return !(Predicate.hasProperty(error, "retryable") && error.retryable === true)
}

/**
 * Failures that every request would have: those of the account, a model that is not there, a server of another kind. A
 * server that has answered others before gives an odd answer as a failure of the one request, see `Readable`.
 */
const isOfEveryRequest = (reason: AiError.AiErrorReason): boolean =>
  everyRequest.has(reason._tag) ||
  (reason._tag === "InvalidRequestError" && (reason.parameter === "model" || reason.parameter === "provider"))

const everyRequest: ReadonlySet<string> = new Set([
  "AuthenticationError",
  "QuotaExhaustedError",
  "RateLimitError",
  "InvalidResponseError"
])
