/**
 * Summary: the result of a run, as numbers for `summary.json` and as words for a person.
 */
import { Effect } from "effect"
import type { Evaluation } from "../evaluation/Evaluator.ts"
import type { Evaluations } from "./Evaluation.ts"
import * as Usage from "../providers/http/Usage.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"

/** Numbers of a policy update that the summary keeps of every iteration. */
export interface Iteration {
  readonly iteration: number
  readonly reward: number
  readonly kl: number
}

/** The result of a run, as it stands in `summary.json`: the same in every run of the same manifest, but for its cost. */
export interface Summary {
  readonly seed: number
  readonly models: Readonly<Record<"base" | "supervised" | "reward" | "reinforced", unknown>>
  /**
   * How many records of each kind were made; `ties` are among the preferences, `cut_off` among the answers that were
   * `learnt`.
   */
  readonly counts: Readonly<Record<string, number>>
  /** What went through the local models, over all starts: `prompt`, `sampled` and `trained` tokens, for instance. */
  readonly tokens: Readonly<Record<string, number>>
  /** Seconds of each phase and their `total`, over all starts. */
  readonly seconds: Readonly<Record<string, number>>
  readonly rejected: Readonly<Record<string, number>>
  readonly evaluation: {
    /** Whether the prompts were kept out of every training. */
    readonly held_out: boolean
    readonly prompts: number
    readonly evaluator: string
    readonly base: Evaluation
    readonly revisions: ReadonlyArray<Evaluation>
    readonly supervised: Evaluation
    readonly reinforced: Evaluation
  }
  readonly reward: {
    readonly pairwise_accuracy: number | null
    readonly pairs: number
    readonly pairs_of: string
    readonly against_base: number | null
    readonly label_accuracy: number | null
  }
  /** What hosted models were asked, over all starts of the run; left out where there were none. */
  readonly hosted?: ReadonlyArray<HostedCalls>
  readonly reinforcement: {
    /** The mean reward of the last iteration's rollouts, standardised. */
    readonly reward: number | null
    /** Nats per answer against the supervised policy, in the last iteration. */
    readonly kl: number | null
    readonly iterations: ReadonlyArray<Iteration>
  }
}

/** The calls to one hosted model by one stage under one principle. */
export interface HostedCalls {
  readonly model: string
  readonly stage: string
  /** The id of the principle. */
  readonly principle: string
  readonly calls: number
  readonly input_tokens: number
  readonly output_tokens: number
}

/** How a run was evaluated. */
export interface Evaluated {
  readonly results: Evaluations
  readonly heldOut: boolean
  readonly prompts: number
  readonly evaluator: string
}

/** The rows of the accounts, in an order that does not depend on the clock. */
const hostedCalls = (rows: ReadonlyArray<Usage.Row>): ReadonlyArray<HostedCalls> =>
  rows
    // What only failed is not on the account, and a later start does not know of it.
    .filter(({ calls }) => calls > 0)
    .map(({ model, stage, principle, calls, tokens: { input, output } }) => ({
      model,
      stage,
      principle,
      calls,
      input_tokens: input,
      output_tokens: output
    }))
    .toSorted((a, b) => {
      const [x, y] = [a, b].map(({ model, stage, principle }) => JSON.stringify([model, stage, principle]))
      return x! < y! ? -1 : 1
    })

const sum = (parts: ReadonlyArray<Readonly<Record<string, number>>>): Record<string, number> => {
  const total: Record<string, number> = {}
  for (const part of parts) for (const [key, n] of Object.entries(part)) total[key] = (total[key] ?? 0) + n
  return total
}

const rounded = (seconds: number) => Math.round(seconds * 100) / 100

/** The summary of a run whose phases are all finished. */
export const make = Effect.fnUntraced(function* (evaluated: Evaluated) {
  const run = yield* Run
  const { responses, critiques, revisions } = yield* Records.revisions("supervised")
  const { pairs, preferences } = yield* Records.preferences
  const learnt = [...revisions.values(), ...responses.values().filter(({ prompt }) => prompt.kind === "benign")]
  const rollouts = yield* Records.rollouts
  const updates = yield* Records.metrics("policy/metrics.jsonl", "iteration")
  const iterations = updates
    .values()
    .map(({ iteration = 0, reward = 0, kl = 0 }): Iteration => ({ iteration, reward, kl }))
  const last = iterations.at(-1)
  const phases = Object.entries(run.timings().phases)
  const seconds = phases.map(([name, { seconds }]) => [name, rounded(seconds)] as const)
  const rejected = run.rejected()
  const { results } = evaluated
  const usage = yield* Effect.serviceOption(Usage.Usage)
  const hosted = usage._tag === "None" ? [] : hostedCalls(yield* usage.value.rows)
  const summary: Summary = {
    seed: run.manifest.seed,
    models: {
      base: run.manifest.model,
      supervised: { adapter: "supervised/adapter" },
      reward: { adapter: "reward/adapter" },
      reinforced: { adapter: "policy/adapter" }
    },
    counts: {
      responses: responses.values().length,
      critiques: critiques.values().length,
      revisions: revisions.values().length,
      pairs: pairs.values().length,
      preferences: preferences.values().length,
      ties: preferences.values().filter(({ tie }) => tie === true).length,
      rollouts: rollouts.values().length,
      updates: iterations.length,
      evaluated: evaluated.prompts,
      learnt: learnt.length,
      cut_off: learnt.filter(({ finish }) => finish === "length").length
    },
    tokens: sum(phases.map(([, { tokens }]) => tokens)),
    seconds: Object.fromEntries([...seconds, ["total", rounded(seconds.reduce((total, [, n]) => total + n, 0))]]),
    rejected: { total: rejected.length, ...sum(rejected.map(({ stage }) => ({ [stage]: 1 }))) },
    evaluation: {
      held_out: evaluated.heldOut,
      prompts: evaluated.prompts,
      evaluator: evaluated.evaluator,
      base: results.base,
      revisions: results.revisions,
      supervised: results.supervised,
      reinforced: results.reinforced
    },
    reward: {
      pairwise_accuracy: results.pairs.accuracy,
      pairs: results.pairs.pairs,
      pairs_of: results.pairs.of,
      against_base: results.againstBase?.accuracy ?? null,
      label_accuracy: results.labels.accuracy
    },
    ...(hosted.length === 0 ? {} : { hosted }),
    reinforcement: { reward: last?.reward ?? null, kl: last?.kl ?? null, iterations }
  }
  return summary
})
