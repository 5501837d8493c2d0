/**
 * UnderWay: equal requests at the same time, one after the other.
 *
 * A cache has an answer only when it is there. Until then a second equal request would be paid for as well, and the
 * accounts of a cache, which know one answer by one key, would not hold it. So it waits for the first, and then finds the
 * answer in the cache, or asks itself where the first failed or was interrupted.
 *
 * @internal
 */
import { Deferred, Effect, Exit } from "effect"

/** Runs an effect when no other of the same key is under way. */
export type Alone = (key: string) => <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Over a map of what is under way, by key; a key is in it for as long as its effect runs. */
export const make =
  (underWay: Map<string, Deferred.Deferred<void>> = new Map()): Alone =>
  (key) =>
  (self) =>
    Effect.uninterruptibleMask((restore) => {
      const begin: typeof self = Effect.suspend(() => {
        const before = underWay.get(key)
        if (before !== undefined) return Effect.andThen(restore(Deferred.await(before)), begin)
        const ended = Deferred.makeUnsafe<void>()
        underWay.set(key, ended)
        return Effect.ensuring(
          restore(self),
          Effect.sync(() => {
            underWay.delete(key)
            Deferred.doneUnsafe(ended, Exit.void)
          })
        )
      })
      return begin
    })
