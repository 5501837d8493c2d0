/**
 * AdapterTable: the adapters of an engine by name, each with a lock for whoever changes it.
 */
import { Effect, Semaphore } from "effect"
import type { Scope } from "effect"
import type { Adapter } from "./Adapters.ts"
import { refuse } from "./EngineFailure.ts"
import { EngineError } from "./EngineRpc.ts"
import { heads } from "./LearnProgram.ts"

export interface AdapterTable {
  /** The adapter of this name; fails where there is none. */
  readonly named: (name: string) => Effect.Effect<Adapter, EngineError>
  /** The same, and the base, which is none, where no name is given. */
  readonly optional: (name: string | null) => Effect.Effect<Adapter | undefined, EngineError>
  /** The adapter of this name, refused where it has no such head. */
  readonly headed: (name: string, head: keyof typeof heads) => Effect.Effect<Adapter, EngineError>
  readonly set: (name: string, adapter: Adapter) => void
  /**
   * For what changes an adapter, such as learning: it has the adapter alone, so that nothing compiled for it is released
   * while it is in use, either.
   */
  readonly alone: (name: string) => <A, E, R>(change: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The same until the scope closes. */
  readonly aloneScoped: (name: string) => Effect.Effect<void, never, Scope.Scope>
}

/** A table of no adapters. */
export const make = (): AdapterTable => {
  const adapters = new Map<string, Adapter>()
  const locks = new Map<string, Semaphore.Semaphore>()
  const lockOf = (name: string): Semaphore.Semaphore => {
    const lock = locks.get(name) ?? Semaphore.makeUnsafe(1)
    locks.set(name, lock)
    return lock
  }
  const named = (name: string): Effect.Effect<Adapter, EngineError> => {
    const adapter = adapters.get(name)
    if (adapter !== undefined) return Effect.succeed(adapter)
    // Who asks has made it: then this is another engine, started again after a crash.
    const message = `There is no adapter ${name} in this engine; make it again, or start the program again.`
    return Effect.fail(new EngineError({ message, retryable: true }))
  }
  return {
    named,
    optional: (name) => (name === null ? Effect.succeed(undefined) : named(name)),
    headed: Effect.fnUntraced(function* (name, head) {
      const adapter = yield* named(name)
      if (adapter.layout.entries.some((entry) => entry.name === heads[head])) return adapter
      return yield* refuse(`The adapter ${name} has no ${head} head; make it with the head "${head}".`)
    }),
    set: (name, adapter) => adapters.set(name, adapter),
    alone: (name) => lockOf(name).withPermit,
    aloneScoped: (name) => Effect.asVoid(lockOf(name).takeScoped(1))
  }
}
