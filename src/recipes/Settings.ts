/**
 * Settings: everything that a user may set about a run, with its defaults.
 *
 * The keys are the paths of this schema (`supervised.rounds`). The sandbox has the sizes that were measured to work in
 * its small world; for a real model they follow from the number of prompts, so that a handful finishes in minutes.
 * Learning rates of a real model are the field's for full fine-tuning, times ten for LoRA.
 */
import { Schema } from "effect"

const described = <S extends Schema.Top>(schema: S, description: string) => schema.annotate({ description })

const Whole = described(Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)), "a whole number, 0 or more")
const Positive = described(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)), "a whole number, 1 or more")
const Share = described(Schema.Number.check(Schema.isBetween({ minimum: 0, maximum: 1 })), "a number from 0 to 1")
const NonNegative = described(Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0)), "a number, 0 or more")
const AboveZero = described(Schema.Finite.check(Schema.isGreaterThan(0)), "a number above 0")
const Boolean = described(Schema.Boolean, "true or false")
const Schedule = described(Schema.Literals(["constant", "linear", "cosine"]), "constant, linear or cosine")

const training = {
  epochs: Positive,
  batchSize: Positive,
  /** At most this many tokens in one run of the graph; it bounds the memory. */
  microTokens: Positive,
  learningRate: NonNegative,
  schedule: Schedule,
  warmupSteps: Whole,
  floor: Share,
  weightDecay: NonNegative,
  maxGradNorm: AboveZero,
  maxLength: Positive
}

/** The settings of a group that are about training. */
export const trainingKeys: ReadonlyArray<string> = Object.keys(training)

/** The settings of a run. */
export const Settings = Schema.Struct({
  seed: Whole,
  data: Schema.Struct({
    /** At most this many prompts; 0 takes all of them. */
    limit: Whole
  }),
  lora: Schema.Struct({ rank: Positive, alpha: AboveZero }),
  supervised: Schema.Struct({
    /** Red-team prompts that are answered, criticised and revised. */
    prompts: Whole,
    /** Helpfulness prompts that are answered once. */
    benign: Whole,
    rounds: Positive,
    maxTokens: Positive,
    critiqueTokens: Positive,
    temperature: NonNegative,
    ...training
  }),
  preferences: Schema.Struct({
    prompts: Whole,
    benign: Whole,
    /** Samples for each prompt; they are compared two by two. */
    samples: described(Schema.Int.check(Schema.isGreaterThanOrEqualTo(2)), "a whole number, 2 or more"),
    maxTokens: Positive,
    temperature: NonNegative,
    /** Principles under which each pair is judged, and averaged over. */
    principles: Positive,
    /** The judge thinks step by step before it chooses; its labels then stay between 0.4 and 0.6. */
    reasoning: Boolean
  }),
  reward: Schema.Struct({
    /** The share of the pairs that is kept out of the training, to test the reward model on. */
    holdout: Share,
    ...training
  }),
  reinforcement: Schema.Struct({
    iterations: Positive,
    /** Rollouts in an iteration, one for each prompt. */
    batchSize: Positive,
    /** The share of an iteration's prompts that are benign, as far as there are any. */
    benignShare: Share,
    maxTokens: Positive,
    temperature: AboveZero,
    epochs: Positive,
    minibatchSize: Positive,
    microTokens: Positive,
    learningRate: NonNegative,
    valueLearningRate: NonNegative,
    warmupIterations: Whole,
    floor: Share,
    klCoefficient: NonNegative,
    clip: AboveZero,
    valueClip: AboveZero,
    valueCoefficient: NonNegative,
    gamma: Share,
    lambda: Share,
    maxGradNorm: AboveZero,
    /** Prompts (harmful and benign together) on whose answers the scores are standardised. */
    calibrationPrompts: described(Schema.Int.check(Schema.isGreaterThanOrEqualTo(2)), "a whole number, 2 or more"),
    /** Standardised rewards are clamped to plus and minus this. */
    rewardClip: NonNegative,
    /** Taken from the reward of an answer that did not end by itself. */
    missingStopPenalty: NonNegative
  }),
  evaluation: Schema.Struct({
    /** Prompts a side that every model is evaluated on; with a prompts file, that many are kept out of training. */
    prompts: Whole,
    /** Of the benign ones, how many are put through the revision rounds as well. */
    benignRevisions: Whole,
    maxTokens: Positive
  }),
  /** Requests that are under way at the same time; the engine makes batches of them. */
  concurrency: Positive,
  hosted: Schema.Struct({
    /** How many samples of a hosted judge make a label; 0 takes probabilities where the server gives them. */
    votes: Whole,
    /** Requests that a hosted model gets at the same time. */
    concurrency: Positive,
    /** 0 is no limit. */
    requestsPerMinute: Whole,
    /** 0 is no limit. */
    tokensPerMinute: Whole
  }),
  budget: Schema.Struct({
    /** Tokens that hosted models may read and write over all starts of the run; 0 is no limit. */
    tokens: Whole,
    /** What they may cost; 0 is no limit. */
    dollars: NonNegative,
    /** Dollars for a million tokens read. */
    inputPrice: NonNegative,
    /** Dollars for a million tokens written. */
    outputPrice: NonNegative
  })
})
export type Settings = typeof Settings.Type

/** How hosted models are used, and what they may cost: nothing that a run makes depends on it, but for the votes. */
const hosted = {
  hosted: { votes: 0, concurrency: 16, requestsPerMinute: 0, tokensPerMinute: 0 },
  budget: { tokens: 0, dollars: 0, inputPrice: 0, outputPrice: 0 }
}

/** As in the paper. */
const judge = { principles: 1, reasoning: false } as const

const sandboxTraining = {
  epochs: 2,
  batchSize: 32,
  microTokens: 4096,
  schedule: "cosine",
  floor: 0.1,
  weightDecay: 0,
  maxGradNorm: 1,
  maxLength: 192
} as const

/** The sandbox's sizes; a limit makes all of them smaller in proportion, for a quick look. */
export const sandbox = (limit: number = 0): Settings => {
  const scale = limit > 0 ? Math.min(1, limit / (384 + 768)) : 1
  const scaled = (n: number, least: number) => Math.max(least, Math.round(n * scale))
  return {
    seed: 1,
    data: { limit },
    lora: { rank: 16, alpha: 32 },
    supervised: {
      prompts: scaled(384, 4),
      benign: scaled(768, 4),
      rounds: 4,
      maxTokens: 72,
      critiqueTokens: 40,
      temperature: 1,
      learningRate: 3e-3,
      warmupSteps: scaled(10, 1),
      ...sandboxTraining
    },
    preferences: {
      prompts: scaled(768, 8),
      benign: scaled(384, 4),
      samples: 2,
      maxTokens: 72,
      temperature: 1,
      ...judge
    },
    reward: { holdout: 0.1, learningRate: 2e-3, warmupSteps: scaled(5, 1), ...sandboxTraining },
    reinforcement: {
      iterations: scaled(24, 2),
      batchSize: scaled(128, 8),
      benignShare: 0.4,
      maxTokens: 64,
      temperature: 1,
      epochs: 2,
      minibatchSize: scaled(64, 4),
      microTokens: 4096,
      // Gentler than a fresh adapter would bear: the policy continues that of the supervised phase, whose A and B have
      // both grown, so the same step moves it further.
      learningRate: 5e-4,
      valueLearningRate: 1e-2,
      warmupIterations: scaled(3, 1),
      floor: 0.3,
      klCoefficient: 0.1,
      clip: 0.2,
      // Rewards lie within 5 of zero, so values are in effect not clipped: that is what was measured.
      valueClip: 10,
      valueCoefficient: 1,
      gamma: 1,
      lambda: 0.95,
      maxGradNorm: 1,
      calibrationPrompts: scaled(160, 8),
      rewardClip: 5,
      missingStopPenalty: 3
    },
    evaluation: { prompts: scaled(400, 8), benignRevisions: scaled(100, 4), maxTokens: 72 },
    concurrency: 512,
    ...hosted
  }
}

/** How many prompts of each kind a user brought. */
export interface PromptCounts {
  readonly harmful: number
  readonly benign: number
}

/** The sizes for a model and prompts of the user's: from minutes for a handful to the field's usual ones. */
export const forPrompts = ({ harmful, benign }: PromptCounts): Settings => {
  const n = harmful + benign
  const few = n <= 64
  // A fifth of a handful would be nothing to test on, so a handful is evaluated on what it was trained on.
  const heldOut = n < 20 ? 0 : Math.min(64, Math.max(1, Math.round(n * 0.1)))
  const used = Math.max(1, n - heldOut)
  const batch = (most: number) => Math.min(most, Math.max(2, Math.ceil(used / 2)))
  const maxTokens = few ? 48 : 128
  const realTraining = {
    epochs: few ? 2 : 1,
    batchSize: batch(32),
    microTokens: 1024,
    schedule: "cosine",
    warmupSteps: few ? 0 : 10,
    floor: 0.1,
    weightDecay: 0,
    maxGradNorm: 1,
    maxLength: 1024
  } as const
  return {
    seed: 1,
    data: { limit: 0 },
    lora: { rank: 16, alpha: 32 },
    supervised: {
      prompts: harmful,
      benign,
      rounds: n <= 16 ? 2 : 4,
      maxTokens,
      critiqueTokens: maxTokens,
      temperature: 1,
      learningRate: 2e-4,
      ...realTraining
    },
    preferences: { prompts: harmful, benign, samples: 2, maxTokens, temperature: 1, ...judge },
    reward: { holdout: 0.1, learningRate: 1e-4, ...realTraining },
    reinforcement: {
      iterations: n <= 16 ? 2 : Math.min(24, Math.max(4, Math.ceil(used / 16))),
      batchSize: Math.min(64, Math.max(4, used)),
      benignShare: 0.4,
      maxTokens,
      temperature: 1,
      epochs: few ? 2 : 4,
      minibatchSize: batch(32),
      microTokens: 1024,
      learningRate: 3e-5,
      valueLearningRate: 1e-3,
      warmupIterations: few ? 0 : 2,
      floor: 0.3,
      klCoefficient: 0.05,
      clip: 0.2,
      valueClip: 0.2,
      valueCoefficient: 0.1,
      gamma: 1,
      lambda: 0.95,
      maxGradNorm: 1,
      calibrationPrompts: Math.max(2, Math.min(64, used)),
      rewardClip: 5,
      // Short answers are often cut off: a harder penalty would drown what the reward model says of them.
      missingStopPenalty: 1
    },
    evaluation: { prompts: heldOut, benignRevisions: heldOut, maxTokens },
    concurrency: 512,
    ...hosted
  }
}
