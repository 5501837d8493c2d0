/**
 * Usage: how many calls and tokens went where, by model, stage and principle.
 *
 * @example
 * const usage = yield* Usage.Usage
 * for (const row of yield* usage.rows) console.log(row.stage, row.calls, row.tokens.output)
 */
import { Context, Effect, Layer } from "effect"
import * as Sampling from "../../Sampling.ts"
import * as Tokens from "./Tokens.ts"

/** What a call is counted under. */
export interface Label {
  readonly model: string
  readonly stage: string
  /** The id that the stage gives, or else the text of a judge's question; empty where neither is known. */
  readonly principle: string
}

/** The calls under one label. */
export interface Row extends Label {
  /** Calls that were answered by the server. */
  readonly calls: number
  /** Calls that were answered by the cache; their tokens are not counted. */
  readonly cached: number
  /** Calls that failed after all repetitions. */
  readonly failed: number
  readonly tokens: Tokens.Tokens
}

/** What happened to one call. */
export type Event =
  | { readonly _tag: "Answered"; readonly tokens: Tokens.Tokens }
  | { readonly _tag: "Cached" }
  | { readonly _tag: "Failed" }

/** The accounts of calls. */
export class Usage extends Context.Service<
  Usage,
  {
    readonly record: (label: Label, event: Event) => Effect.Effect<void>
    /** One row for each model, stage and principle, in the order in which they came up. */
    readonly rows: Effect.Effect<ReadonlyArray<Row>>
  }
>()("charter/providers/Usage") {}

/** Labels for the calls of an effect, where the calls themselves do not tell. */
export const Labels: Context.Reference<Partial<Label>> = Context.Reference<Partial<Label>>("charter/providers/Labels", {
  defaultValue: () => ({})
})

/** Counts the calls of an effect under a stage or principle. */
export const label =
  (labels: Partial<Label>) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Labels, (base) => Effect.provideService(self, Labels, { ...base, ...labels }))

const stages = new Set(["response", "critique", "revision", "preference", "evaluation"])

/** The label of a call: the ids that stages give to their calls name the stage. */
export const labelOf = Effect.fnUntraced(function* (model: string, principle: string = ""): Effect.fn.Return<Label> {
  const { id, principle: known } = yield* Sampling.Sampling
  const stage = id.split("/").findLast((part) => stages.has(part)) ?? "other"
  return { model, stage, principle: known ?? principle, ...(yield* Labels) }
})

const count = (row: Row, event: Event): Row => {
  if (event._tag === "Cached") return { ...row, cached: row.cached + 1 }
  if (event._tag === "Failed") return { ...row, failed: row.failed + 1 }
  return { ...row, calls: row.calls + 1, tokens: Tokens.add(row.tokens, event.tokens) }
}

/** The accounts, at zero. */
export const make: Effect.Effect<Usage["Service"]> = Effect.sync(() => {
  const counted = new Map<string, Row>()
  return {
    record: (label, event) =>
      Effect.sync(() => {
        const key = JSON.stringify([label.model, label.stage, label.principle])
        const row = counted.get(key) ?? { ...label, calls: 0, cached: 0, failed: 0, tokens: Tokens.zero }
        counted.set(key, count(row, event))
      }),
    rows: Effect.sync(() => [...counted.values()])
  }
})

/** Accounts that begin at zero, for as long as the layer lives. */
export const layer: Layer.Layer<Usage> = Layer.effect(Usage, make)

/** The rows summed by one of their labels. */
export const by = (
  rows: ReadonlyArray<Row>,
  label: keyof Label
): ReadonlyMap<string, Pick<Row, "calls" | "cached" | "failed" | "tokens">> => {
  const sums = new Map<string, Pick<Row, "calls" | "cached" | "failed" | "tokens">>()
  for (const row of rows) {
    const sum = sums.get(row[label]) ?? { calls: 0, cached: 0, failed: 0, tokens: Tokens.zero }
    sums.set(row[label], {
      calls: sum.calls + row.calls,
      cached: sum.cached + row.cached,
      failed: sum.failed + row.failed,
      tokens: Tokens.add(sum.tokens, row.tokens)
    })
  }
  return sums
}
