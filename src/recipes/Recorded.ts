/**
 * Recorded: a stage whose records are kept in the run folder, and which asks only for what is not there yet.
 *
 * A sample that fails for good lands in `rejected.jsonl` and the stream goes on. A failure that may pass (a model that
 * is gone, for one) says nothing about the sample: it ends the run, which can then be resumed.
 */
import { Effect, Option, Predicate, Stream } from "effect"
import * as Stage from "../Stage.ts"
import type { Log } from "./Log.ts"
import { Progress } from "./Progress.ts"
import { Run } from "./Run.ts"
import type { RunError } from "./RunError.ts"

/** How a stage is recorded. */
export interface Options<A, B> {
  readonly log: Log<B>
  /** The key that the record of a sample will have. */
  readonly key: (sample: A) => string
  readonly concurrency: number
}

/** A stage of one record a sample, recorded. Records come in the order in which they are ready. */
export const recorded =
  <A extends { readonly id: string }, B>(name: string, { log, key, concurrency }: Options<A, B>) =>
  <E, R>(stage: Stage.Stage<A, B, E, R>): Stage.Stage<A, B, E | RunError, R | Run> => {
    const work = Effect.fnUntraced(function* (sample: A) {
      const run = yield* Run
      const progress = yield* Progress
      const at = key(sample)
      const before = log.get(at)
      if (before !== undefined || run.isRejected(name, at)) {
        yield* progress.advance({ reused: true })
        return Option.fromUndefinedOr(before)
      }
      const made = yield* Stream.succeed(sample).pipe(
        stage,
        Stream.runHead,
        Effect.catch((error): Effect.Effect<Option.Option<B>, E | RunError> =>
          isPassing(error)
            ? Effect.fail(error)
            : Effect.as(run.reject({ stage: name, id: at, reason: words(error) }), Option.none<B>())
        )
      )
      if (Option.isSome(made)) yield* log.append(made.value)
      yield* progress.advance()
      return made
    })
    return Stage.from((samples) =>
      samples.pipe(
        // One by one: a slow sample must not hold back those that came in the same chunk.
        Stream.rechunk(1),
        Stream.mapEffect(work, { concurrency, unordered: true }),
        Stream.filter(Option.isSome),
        Stream.map(({ value }) => value)
      )
    )
  }

/** Whether the same request may succeed later. */
const isPassing = (error: unknown): boolean =>
  (Predicate.hasProperty(error, "retryable") && error.retryable === true) ||
  (Predicate.hasProperty(error, "isRetryable") && error.isRetryable === true)

/** What went wrong, in words. */
export const words = (error: unknown): string => (error instanceof Error ? error.message : String(error))
