/**
 * TrainSettings: what determines a training, with the field's defaults (`docs/training.md` has them as a table).
 */
import { Effect, Option } from "effect"
import { UsageError } from "./UsageError.ts"

/** What is trained from a file of examples. */
export type Kind = "sft" | "reward" | "dpo"

/** What is trained from sampled answers. */
export type PolicyKind = "ppo" | "grpo" | "rloo"

/** The arguments that every training takes, as they were given. */
export interface CommonInput {
  readonly model: string
  readonly adapter: Option.Option<string>
  readonly out: string
  readonly loraRank: Option.Option<number>
  readonly loraAlpha: Option.Option<number>
  readonly loraTargets: Option.Option<string>
  readonly full: boolean
  readonly steps: Option.Option<number>
  readonly batchSize: Option.Option<number>
  readonly microBatch: Option.Option<number>
  readonly learningRate: Option.Option<number>
  readonly schedule: "constant" | "linear" | "cosine"
  readonly warmup: number
  readonly weightDecay: number
  readonly maxGradNorm: number
  readonly maxLength: Option.Option<number>
  readonly precision: "fp32" | "int8"
  readonly device: "cpu" | "cuda"
  readonly recompute: boolean
  readonly saveEvery: number
  readonly keep: number
  readonly seed: number
}

/** A new adapter's rank, alpha and the names of the linear layers that it is on; null stands for all of them. */
export interface NewAdapter {
  readonly rank: number
  readonly alpha: number
  readonly targets: ReadonlyArray<string> | null
}

/** What was asked for of an adapter, where it was. */
export interface Asked {
  readonly rank?: number
  readonly alpha?: number
  readonly targets?: ReadonlyArray<string>
}

/** What the arguments say of an adapter; a target that is named twice is one. */
export const asked = ({ loraAlpha, loraRank, loraTargets }: CommonInput): Asked => ({
  ...(Option.isSome(loraRank) ? { rank: loraRank.value } : {}),
  ...(Option.isSome(loraAlpha) ? { alpha: loraAlpha.value } : {}),
  ...(Option.isSome(loraTargets)
    ? { targets: [...new Set(loraTargets.value.split(",").map((name) => name.trim()))] }
    : {})
})

/** What every training is determined by. */
export interface Common {
  /** Null where all parameters are trained. */
  readonly lora: NewAdapter | null
  readonly batchSize: number
  /** Rows of a micro-batch at most; null leaves it to the bound on tokens. */
  readonly microBatch: number | null
  /** Tokens of a micro-batch at most. */
  readonly microTokens: number
  readonly learningRate: number
  readonly schedule: "constant" | "linear" | "cosine"
  /** Steps, or below 1 a share of them. */
  readonly warmup: number
  readonly floor: number
  readonly weightDecay: number
  readonly maxGradNorm: number
  readonly maxLength: number
  readonly precision: "fp32" | "int8"
  readonly recompute: boolean
  readonly saveEvery: number
  readonly keep: number
  readonly seed: number
}

/** Learning rates of LoRA; training all parameters takes a tenth. */
const learningRates: Readonly<Record<Kind | PolicyKind, number>> = {
  sft: 2e-4,
  reward: 1e-4,
  dpo: 1e-5,
  ppo: 3e-5,
  grpo: 1e-5,
  rloo: 1e-5
}

/** Tokens of a micro-batch: large enough for full speed, small enough for 2.5 GB with a model of 135 M. */
const microTokens = 640

/** A setting that is refused. */
export const wrong = (message: string) => new UsageError({ message })

/** Learning computes in 32 bits: what is infinite or zero there would be so in each step. */
export const fits = (flag: string, x: number): Effect.Effect<void, UsageError> =>
  Number.isFinite(Math.fround(x)) && (x === 0) === (Math.fround(x) === 0)
    ? Effect.void
    : Effect.fail(wrong(`${flag} is ${x}, which 32 bits cannot hold; give a number from 1e-45 to 3e38.`))

/** Refuses what is not above 0. */
export const positive = (flag: string, x: number): Effect.Effect<void, UsageError> =>
  x > 0 ? fits(flag, x) : Effect.fail(wrong(`${flag} has to be above 0, and is ${x}.`))

/** Refuses what is below `least`. */
export const atLeast = (flag: string, x: number, least: number): Effect.Effect<void, UsageError> =>
  x >= least ? fits(flag, x) : Effect.fail(wrong(`${flag} has to be ${least} or more, and is ${x}.`))

/** Refuses what is not from 0 to 1. */
export const fraction = (flag: string, x: number): Effect.Effect<void, UsageError> =>
  x >= 0 && x <= 1 ? Effect.void : Effect.fail(wrong(`${flag} has to be from 0 to 1, and is ${x}.`))

/** Settings out of the arguments, for a model that reads `positions` tokens. */
export const common = Effect.fnUntraced(function* (
  kind: Kind | PolicyKind,
  input: CommonInput,
  positions: number,
  batchSize: number
): Effect.fn.Return<Common, UsageError> {
  if (input.full && Object.keys(asked(input)).length > 0) {
    return yield* wrong(
      "--full trains all parameters and has no LoRA; leave out --full, or --lora-rank, --lora-alpha and --lora-targets."
    )
  }
  if (input.full && Option.isSome(input.adapter)) {
    return yield* wrong(
      "--full trains the model's own parameters; leave out --adapter, or merge it into the model first."
    )
  }
  if (input.full && input.precision === "int8") {
    return yield* wrong("--full trains all parameters and has no frozen ones; leave out --precision int8.")
  }
  const { rank = 16, alpha = 2 * rank, targets = null } = asked(input)
  const rate = Option.getOrElse(input.learningRate, () => learningRates[kind] * (input.full ? 0.1 : 1))
  const size = Option.getOrElse(input.batchSize, () => batchSize)
  const length = Option.getOrElse(input.maxLength, () => Math.min(1024, positions))
  yield* atLeast("--lora-rank", rank, 1)
  yield* positive("--lora-alpha", alpha)
  yield* positive("--learning-rate", rate)
  yield* atLeast("--batch-size", size, 1)
  yield* atLeast("--max-length", length, 2)
  yield* atLeast("--warmup", input.warmup, 0)
  yield* atLeast("--weight-decay", input.weightDecay, 0)
  yield* positive("--max-grad-norm", input.maxGradNorm)
  yield* atLeast("--save-every", input.saveEvery, 0)
  yield* atLeast("--keep", input.keep, 1)
  if (Option.isSome(input.steps)) yield* atLeast("--steps", input.steps.value, 1)
  if (Option.isSome(input.microBatch)) yield* atLeast("--micro-batch", input.microBatch.value, 1)
  if (length > positions) {
    return yield* wrong(`--max-length ${length} is more than the ${positions} positions of the model.`)
  }
  return {
    lora: input.full ? null : { rank, alpha, targets },
    batchSize: size,
    microBatch: Option.getOrNull(input.microBatch),
    // No micro-batch has more rows than its batch.
    microTokens: Math.max(
      microTokens,
      Math.min(
        size,
        Option.getOrElse(input.microBatch, () => 0)
      ) * length
    ),
    learningRate: rate,
    schedule: input.schedule,
    warmup: input.warmup,
    floor: input.schedule === "linear" ? 0 : 0.1,
    weightDecay: input.weightDecay,
    maxGradNorm: input.maxGradNorm,
    maxLength: length,
    precision: input.precision,
    recompute: input.recompute,
    saveEvery: input.saveEvery,
    keep: input.keep,
    seed: input.seed
  }
})

/** Steps of warm-up out of a number of steps. */
export const warmupSteps = (warmup: number, steps: number): number =>
  warmup < 1 ? Math.round(warmup * steps) : Math.round(warmup)
