/**
 * Progress: what a recipe tells of its way. It knows nothing of terminals; the command line draws it.
 */
import { Context, Effect } from "effect"

/** Where a recipe reports to. */
export interface Progress {
  /** A phase begins, of which `total` steps are known now. */
  readonly begin: (phase: string, total: number) => Effect.Effect<void>
  /** A step is done. `reused` says that an earlier start of the run had done it: it tells nothing of the speed. */
  readonly advance: (options?: { readonly reused?: boolean; readonly note?: string }) => Effect.Effect<void>
  /** The phase is over. */
  readonly end: Effect.Effect<void>
}

/** Reports to nobody. */
export const silent: Progress = { begin: () => Effect.void, advance: () => Effect.void, end: Effect.void }

/** The progress in force; {@link silent} unless another is provided. */
export const Progress: Context.Reference<Progress> = Context.Reference<Progress>("charter/Progress", {
  defaultValue: () => silent
})

/** Begins a phase of `total` steps and ends it with the effect. */
export const phase =
  (name: string, total: number) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Progress, (progress) =>
      Effect.ensuring(Effect.andThen(progress.begin(name, total), self), progress.end)
    )

/** A number as a person is told it, with two digits after the point; what rounds to zero has no sign. */
export const hundredths = (n: number): string => n.toFixed(2).replace(/^-(?=0\.00$)/, "")
