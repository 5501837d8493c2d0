/**
 * Costs: what the phases of a run have cost so far, over all its starts, in `timings.json`.
 */
import { DateTime, Effect, Exit, Option, Schema } from "effect"
import * as Atomic from "./Atomic.ts"
import * as Elapsed from "./Elapsed.ts"
import type { RunError } from "./RunError.ts"

const Cost = Schema.Struct({ seconds: Schema.Number, tokens: Schema.Record(Schema.String, Schema.Number) })

/** What depends on the clock: no two runs have the same. */
export const Timings = Schema.Struct({ created: Schema.String, phases: Schema.Record(Schema.String, Cost) })
export type Timings = typeof Timings.Type

/** Counts that grow while a run goes on; what grows within a phase is the phase's. */
export interface Counter {
  readonly read: () => Readonly<Record<string, number>>
}

/** The costs of a run. */
export interface Costs {
  readonly timings: () => Timings
  /** Runs a phase and notes what it costs, every few seconds and at its end. */
  readonly noting: <A, E, R>(phase: string, self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RunError, R>
}

const decode = Schema.decodeUnknownOption(Timings)

/** Goes on with the costs that were `stored` in the file; they begin at nothing where these are none. */
export const make = Effect.fnUntraced(function* (
  file: string,
  stored: unknown,
  { read }: Counter
): Effect.fn.Return<Costs> {
  const created = DateTime.formatIso(yield* DateTime.now)
  let timings: Timings = Option.getOrElse(decode(stored), () => ({ created, phases: {} }))
  return {
    timings: () => timings,
    noting: Effect.fnUntraced(function* (phase, self) {
      const before = timings.phases[phase] ?? { seconds: 0, tokens: {} }
      const elapsed = yield* Elapsed.begin
      const counted = read()
      const save = Effect.gen(function* () {
        const seconds = yield* elapsed
        const grown = Object.entries(read()).map(
          ([key, n]) => [key, (before.tokens[key] ?? 0) + n - (counted[key] ?? 0)] as const
        )
        const cost = {
          seconds: Math.round((before.seconds + seconds) * 1000) / 1000,
          tokens: { ...before.tokens, ...Object.fromEntries(grown) }
        }
        timings = { ...timings, phases: { ...timings.phases, [phase]: cost } }
        yield* Atomic.writeJson(file, timings)
      })
      // A kill loses the cost since the last of these, and never a record.
      const saving = Effect.forever(Effect.andThen(Effect.sleep("2 seconds"), save))
      return yield* Effect.raceFirst(self, saving).pipe(
        Effect.onExit((exit) => (Exit.isSuccess(exit) ? save : Effect.ignore(save)))
      )
    })
  }
})
