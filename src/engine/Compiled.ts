/**
 * Compiled: what is compiled for names by options, such as a policy's learner, released when no name has these options
 * any more.
 *
 * A learner's graphs hold the base's weights: one that is only forgotten stays in memory until the engine ends, and one
 * for each of many policies that differ in nothing but their numbers would hold the base as many times.
 */
import { Effect, Exit, Scope, Semaphore } from "effect"

/** Things by options, each in a scope of its own. */
export interface Compiled<A> {
  /** The thing of these options, compiled where no name has them yet; what the name had before is given up first. */
  readonly get: <E>(name: string, options: object, compile: Effect.Effect<A, E, Scope.Scope>) => Effect.Effect<A, E>
  /** Gives up the thing of this name, if there is one; it is released where no other name has it. */
  readonly drop: (name: string) => Effect.Effect<void>
}

interface Held<A> {
  readonly value: A
  readonly scope: Scope.Closeable
  /** Who has it. */
  readonly names: Set<string>
}

/** Nothing compiled yet; all of it is released with the scope at the latest. */
export const make = Effect.fnUntraced(function* <A>(): Effect.fn.Return<Compiled<A>, never, Scope.Scope> {
  const whole = yield* Effect.scope
  const compiling = yield* Semaphore.make(1)
  const held = new Map<string, Held<A>>()
  const keys = new Map<string, string>()
  const drop = (name: string) =>
    Effect.suspend(() => {
      const key = keys.get(name)
      const found = key === undefined ? undefined : held.get(key)
      keys.delete(name)
      found?.names.delete(name)
      if (key === undefined || found === undefined || found.names.size > 0) return Effect.void
      held.delete(key)
      return Scope.close(found.scope, Exit.void)
    })
  return {
    get: Effect.fnUntraced(
      function* (name, options, compile) {
        const key = JSON.stringify(options)
        if (keys.get(name) !== key) yield* drop(name)
        let found = held.get(key)
        if (found === undefined) {
          const scope = yield* Scope.fork(whole)
          const value = yield* Effect.onError(Effect.provideService(compile, Scope.Scope, scope), (cause) =>
            Scope.close(scope, Exit.failCause(cause))
          )
          found = { value, scope, names: new Set() }
          held.set(key, found)
        }
        found.names.add(name)
        keys.set(name, key)
        return found.value
      },
      (get) => compiling.withPermit(get)
    ),
    drop
  }
})
