/**
 * Script: what a mock answers, and what it was asked.
 */
import { Effect } from "effect"
import type { Duration } from "effect"
import type { CallLog } from "./CallLog.ts"

/**
 * The answers of a mock: one for all calls, a list in the order of the calls, or a function of the call. Under
 * concurrency the order of calls is not fixed: use a function there. One that gives undefined knows no answer.
 */
export type Script<Call, A> = A | ReadonlyArray<A> | ((call: Call, n: number) => A | undefined)

/** How a mock behaves besides what it answers. */
export interface Options {
  /** The name that records carry. */
  readonly model?: string | undefined
  /** The calls that fail, counted from 1. */
  readonly failOn?: ReadonlyArray<number> | ((n: number) => boolean) | undefined
  /** How long a call takes; in tests it is the test clock that says when it is over. */
  readonly delay?: Duration.Input | ((n: number) => Duration.Input) | undefined
  /** A log that is shared with other mocks, to see in which order they were called. */
  readonly log?: CallLog | undefined
  /** Calls are counted and not kept, for tests of very many. */
  readonly forget?: boolean | undefined
}

/** Answers a call from the script and writes it down. */
export const player = <Call extends object, A extends string | number | object>(
  script: Script<Call, A>,
  options: Options = {},
  model = options.model ?? "mock"
): {
  readonly calls: Array<Call>
  readonly play: <E>(call: Call, failure: (description: string) => E) => Effect.Effect<A, E>
} => {
  const calls: Array<Call> = []
  const { delay, failOn = [] } = options
  const fails = typeof failOn === "function" ? failOn : (n: number) => failOn.includes(n)
  let count = 0

  const answer = <E>(call: Call, n: number, failure: (description: string) => E): Effect.Effect<A, E> => {
    if (fails(n)) return Effect.fail(failure(`call ${n} is scripted to fail`))
    if (typeof script === "function") {
      const made = (script as (call: Call, n: number) => A | undefined)(call, n)
      return made === undefined
        ? Effect.fail(failure(`call ${n} has no answer; script it, or record it anew`))
        : Effect.succeed(made)
    }
    if (!Array.isArray(script)) return Effect.succeed(script as A)
    return n <= script.length
      ? Effect.succeed(script[n - 1] as A)
      : Effect.die(new Error(`the mock has ${script.length} answers and was called ${n} times`))
  }

  return {
    calls,
    play: (call, failure) =>
      Effect.suspend(() => {
        const n = ++count
        if (options.forget !== true) calls.push(call)
        options.log?.write({ model, n, call })
        const answered = Effect.suspend(() => answer(call, n, failure))
        if (delay === undefined) return answered
        return Effect.delay(answered, typeof delay === "function" ? delay(n) : delay)
      })
  }
}
