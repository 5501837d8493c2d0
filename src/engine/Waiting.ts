/**
 * Waiting: those who wait for what a program with a queue makes, until its scope closes.
 *
 * Nobody serves the queue then, so who waits is interrupted, as it is where the program is in a thread that ends.
 */
import { Deferred, Effect } from "effect"
import type { Scope } from "effect"

/** Waits for what is made, or until the scope closes. */
export type Waiting = <A, E>(done: Deferred.Deferred<A, E>) => Effect.Effect<A, E>

/** The waiting of one program, for as long as the scope lasts. */
export const make: Effect.Effect<Waiting, never, Scope.Scope> = Effect.gen(function* () {
  const interruptions = new Set<Effect.Effect<boolean>>()
  let closed = false
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closed = true
      return Effect.all([...interruptions], { discard: true })
    })
  )
  return (done) =>
    Effect.suspend(() => {
      if (closed) return Effect.interrupt
      const interruption = Deferred.interrupt(done)
      interruptions.add(interruption)
      return Effect.ensuring(
        Deferred.await(done),
        Effect.sync(() => interruptions.delete(interruption))
      )
    })
})
