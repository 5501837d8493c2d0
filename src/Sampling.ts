/**
 * Sampling: how the next text is sampled, for models behind `effect/ai`.
 *
 * `LanguageModel` has no fields for a seed, a temperature, stop texts or a literal context. Stages put them here, around
 * the call, and providers read them: the Policy-backed model reads all of them, a hosted model what it can use.
 */
import { Context, Effect } from "effect"
import type { ModelContext, SamplingOptions } from "./Policy.ts"

/** What narrows a distribution before a token is drawn from it; see `Policy.SamplingOptions`. */
export type Filters = Partial<Pick<SamplingOptions, "topK" | "topP" | "minP" | "repetitionPenalty" | "logitBias">>

/** How one text is sampled. All randomness comes from (`seed`, `id`). */
export interface Sampling extends Filters {
  /** What is being sampled: set by the stage. */
  readonly id: string
  readonly seed: number
  readonly maxTokens: number
  /** 0 is greedy. */
  readonly temperature: number
  /** The text ends before the first of these: set by the stage from the transcript. */
  readonly stop: ReadonlyArray<string>
  /**
   * The exact context, set by the stage. A provider that can continue a literal text uses it in place of the prompt
   * of the call, so that no chat template comes between.
   */
  readonly context?: ModelContext
  /** The exact texts of the labels of a decision, in their order, where they follow `context`. */
  readonly options?: ReadonlyArray<string>
  /** The id of the principle that it is about: set by the stage, for the accounts of hosted models. */
  readonly principle?: string
}

/** The sampling in force: the paper's temperature of 1 unless set otherwise. */
export const Sampling: Context.Reference<Sampling> = Context.Reference<Sampling>("charter/Sampling", {
  defaultValue: () => ({ id: "", seed: 0, maxTokens: 256, temperature: 1, stop: [] })
})

/** What a user may set of it, for a whole program ({@link provide}) or for one stage (its options). */
export interface Options extends Filters {
  readonly seed?: number | undefined
  readonly maxTokens?: number | undefined
  readonly temperature?: number | undefined
}

/** The sampling in force with `options` and then `request` over it. */
export const merge = (
  base: Sampling,
  options: Options,
  request: Partial<Pick<Sampling, "id" | "stop" | "context" | "options">> = {}
): Sampling => ({
  ...base,
  ...Object.fromEntries(names.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]]))),
  ...request
})

/** What options may set, by name: they may be part of a stage's own. */
const names = [
  "seed",
  "maxTokens",
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "logitBias"
] as const satisfies ReadonlyArray<keyof Options>

/** Says which principle the texts and choices of an effect are about. */
export const under =
  (principle: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Sampling, (base) => Effect.provideService(self, Sampling, { ...base, principle }))

/** Sets the sampling for an effect. */
export const provide =
  (options: Options) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Sampling, (base) => Effect.provideService(self, Sampling, merge(base, options)))
