/**
 * Script: what a mock answers, and what it was asked.
 */
import { Effect } from "effect"

/**
 * The answers of a mock: one for all calls, a list in the order of the calls, or a function of the call. Under
 * concurrency the order of calls is not fixed: use a function there.
 */
export type Script<Call, A> = A | ReadonlyArray<A> | ((call: Call, n: number) => A)

/** How a mock behaves besides what it answers. */
export interface Options {
  /** The name that records carry. */
  readonly model?: string | undefined
  /** The calls that fail, counted from 1. */
  readonly failOn?: ReadonlyArray<number> | ((n: number) => boolean) | undefined
}

/** Answers a call from the script and writes it down. */
export const player = <Call, A extends string | number | object>(
  script: Script<Call, A>,
  failOn: Options["failOn"] = []
): {
  readonly calls: Array<Call>
  readonly play: <E>(call: Call, failure: (n: number) => E) => Effect.Effect<A, E>
} => {
  const calls: Array<Call> = []
  const fails = typeof failOn === "function" ? failOn : (n: number) => failOn.includes(n)
  return {
    calls,
    play: (call, failure) =>
      Effect.suspend(() => {
        const n = calls.push(call)
        if (fails(n)) return Effect.fail(failure(n))
        if (typeof script === "function") return Effect.succeed((script as (call: Call, n: number) => A)(call, n))
        if (!Array.isArray(script)) return Effect.succeed(script as A)
        return n <= script.length
          ? Effect.succeed(script[n - 1] as A)
          : Effect.die(new Error(`the mock has ${script.length} answers and was called ${n} times`))
      })
  }
}
