/**
 * Compiled: what is compiled under a name, such as a policy's learner, released when it is compiled anew or dropped.
 *
 * A learner's graphs hold the base's weights: one that is only forgotten stays in memory until the engine ends.
 */
import { Effect, Exit, Scope } from "effect"

/** Things by name, each in a scope of its own. */
export interface Compiled<A> {
  /** The thing of this name; compiled again where the options are others than those it was compiled with. */
  readonly get: <E>(name: string, options: object, compile: Effect.Effect<A, E, Scope.Scope>) => Effect.Effect<A, E>
  /** Releases the thing of this name, if there is one. */
  readonly drop: (name: string) => Effect.Effect<void>
}

/** Nothing compiled yet; all of it is released with the scope at the latest. */
export const make = Effect.fnUntraced(function* <A>(): Effect.fn.Return<Compiled<A>, never, Scope.Scope> {
  const whole = yield* Effect.scope
  const held = new Map<string, { readonly key: string; readonly value: A; readonly scope: Scope.Closeable }>()
  const drop = (name: string) =>
    Effect.suspend(() => {
      const found = held.get(name)
      held.delete(name)
      return found === undefined ? Effect.void : Scope.close(found.scope, Exit.void)
    })
  return {
    get: Effect.fnUntraced(function* (name, options, compile) {
      const key = JSON.stringify(options)
      const found = held.get(name)
      if (found?.key === key) return found.value
      yield* drop(name)
      const scope = yield* Scope.fork(whole)
      const value = yield* Effect.onError(Effect.provideService(compile, Scope.Scope, scope), (cause) =>
        Scope.close(scope, Exit.failCause(cause))
      )
      held.set(name, { key, value, scope })
      return value
    }),
    drop
  }
})
