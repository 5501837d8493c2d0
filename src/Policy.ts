/**
 * Policy: a language model with token ids and log-probabilities, which can learn.
 *
 * It is the contract between the stages, which ask for text and for judgements, and the engine, which knows only
 * tokens. `effect/ai`'s `LanguageModel` and `DecisionModel` are adapters over it (see `providers/onnx`).
 */
import { Context, Schema } from "effect"
import type { Effect, Stream } from "effect"

/** One turn of a conversation. */
export const Message = Schema.Struct({ role: Schema.Literals(["system", "user", "assistant"]), content: Schema.String })
export type Message = typeof Message.Type

/**
 * What a model continues: a literal text (the paper's `\n\nHuman:` transcripts), or messages that the provider puts
 * through the model's own chat template, with `prefix` as the first words of the answer.
 */
export const ModelContext = Schema.Union([
  Schema.String,
  Schema.Struct({ messages: Schema.Array(Message), prefix: Schema.optional(Schema.String) })
])
export type ModelContext = typeof ModelContext.Type

/**
 * How a continuation is sampled. The filters apply in the order logitBias, repetitionPenalty, temperature, topK, topP,
 * minP (see `engine/Sampling.ts`); what is left out does nothing.
 */
export const SamplingOptions = Schema.Struct({
  maxTokens: Schema.Int,
  /** 0 is greedy. */
  temperature: Schema.Number,
  /** The k likeliest tokens. */
  topK: Schema.optional(Schema.Int),
  /** The fewest of the likeliest tokens whose probabilities reach p. */
  topP: Schema.optional(Schema.Number),
  /** Tokens of at least this share of the likeliest one's probability. */
  minP: Schema.optional(Schema.Number),
  /** Above 1, what occurred before gets rarer. */
  repetitionPenalty: Schema.optional(Schema.Number),
  /** Added to the logits, by token id. */
  logitBias: Schema.optional(Schema.ReadonlyMap(Schema.Int, Schema.Number))
})
export type SamplingOptions = typeof SamplingOptions.Type

/** A request for one sampled continuation. All randomness comes from (`seed`, `id`, position). */
export const SampleRequest = Schema.Struct({
  ...SamplingOptions.fields,
  id: Schema.String,
  context: ModelContext,
  seed: Schema.Number,
  /** The answer ends before the first of these texts, besides the model's own end tokens. */
  stop: Schema.optional(Schema.Array(Schema.String))
})
export type SampleRequest = typeof SampleRequest.Type

/** Why an answer ended: by itself (an end token or a stop text), or because it had the most tokens that were allowed. */
export const Finish = Schema.Literals(["stop", "length"])
export type Finish = typeof Finish.Type

/** A sampled continuation; the lists over its tokens include the end token if there is one. */
export const Completion = Schema.Struct({
  text: Schema.String,
  tokenIds: Schema.Array(Schema.Int),
  /** Nats under the model itself, at temperature 1. */
  logprobs: Schema.Array(Schema.Number),
  /** Nats under the distribution that the token was drawn from, where the provider knows it. */
  samplingLogprobs: Schema.optionalKey(Schema.Array(Schema.Number)),
  promptIds: Schema.Array(Schema.Int),
  finish: Finish
})
export type Completion = typeof Completion.Type

/** A supervised example: `completion` is learnt with the model's end token, `context` is not. */
export const Example = Schema.Struct({
  id: Schema.String,
  context: ModelContext,
  completion: Schema.String,
  /** Of `length`, the completion was cut off: no end token is learnt, or the model would learn to stop in mid-sentence. */
  finish: Schema.optionalKey(Finish)
})
export type Example = typeof Example.Type

const Positive = Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const NotNegative = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))
const AboveZero = Schema.Number.check(Schema.isGreaterThan(0))
const Share = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))

/** How a training goes; {@link learnOptions} fills in the field's defaults. */
export const LearnOptions = Schema.Struct({
  seed: Schema.Number,
  epochs: Positive,
  batchSize: Positive,
  /** At most this many tokens in one run; larger batches accumulate gradients. */
  microTokens: Positive,
  learningRate: NotNegative,
  schedule: Schema.Literals(["constant", "linear", "cosine"]),
  warmupSteps: Count,
  /** The schedule falls to this share of the learning rate. */
  floor: Share,
  weightDecay: NotNegative,
  maxGradNorm: AboveZero,
  /** Rows longer than this many tokens are rejected. */
  maxLength: Positive,
  /**
   * Where the state is kept for resuming; a training found there is continued, a finished one is not repeated. One of
   * other samples, or with another seed or batch size, is refused.
   */
  stateDir: Schema.String
})
export type LearnOptions = typeof LearnOptions.Type

/**
 * The options of a training, what is not given as is usual for an adapter.
 *
 * @example
 * policy.learn(examples, learnOptions({ stateDir: "runs/mine/state", epochs: 2 }), onReject)
 */
export const learnOptions = (options: Partial<LearnOptions> & Pick<LearnOptions, "stateDir">): LearnOptions => ({
  ...{ seed: 1, epochs: 1, batchSize: 8, microTokens: 640, maxLength: 1024 },
  ...{ learningRate: 1e-4, schedule: "cosine", warmupSteps: 0, floor: 0.1, weightDecay: 0, maxGradNorm: 1 },
  ...options
})

/** What one optimizer step reports, under the field's names. */
export interface StepMetrics {
  readonly step: number
  readonly steps: number
  readonly loss: number
  readonly learning_rate: number
  readonly grad_norm: number
  readonly tokens: number
  readonly seconds: number
  readonly [metric: string]: number
}

/** A sampled answer with its reward, ready for a policy update. */
export const ScoredRollout = Schema.Struct({
  id: Schema.String,
  promptIds: Schema.Array(Schema.Int),
  tokenIds: Schema.Array(Schema.Int),
  logprobs: Schema.Array(Schema.Number),
  /** The scalar reward of the whole answer, without the KL term. */
  reward: Schema.Number
})
export type ScoredRollout = typeof ScoredRollout.Type

/**
 * How a policy update goes: proximal policy optimisation with a value head (Schulman et al. 2017); {@link updateOptions}
 * fills in the field's defaults.
 */
export const UpdateOptions = Schema.Struct({
  seed: Schema.Number,
  /** The iteration, from 0; with `iterations` it sets the learning rate. */
  iteration: Count,
  iterations: Positive,
  epochs: Positive,
  minibatchSize: Positive,
  microTokens: Positive,
  /**
   * The temperature that the answers were sampled at; 1 if not given. What is learnt is the policy that they are of, so
   * its log-probabilities, ratios and KL are of logits that are divided by it.
   */
  temperature: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThan(0))),
  learningRate: NotNegative,
  valueLearningRate: NotNegative,
  warmupIterations: Count,
  floor: Share,
  klCoefficient: NotNegative,
  clip: AboveZero,
  valueClip: AboveZero,
  valueCoefficient: NotNegative,
  gamma: Share,
  lambda: Share,
  maxGradNorm: AboveZero,
  stateDir: Schema.String
})
export type UpdateOptions = typeof UpdateOptions.Type

/**
 * The options of an update, what is not given as is usual for an adapter.
 *
 * @example
 * policy.update(rollouts, updateOptions({ iteration, iterations: 24, stateDir: "runs/mine/state" }))
 */
export const updateOptions = (
  options: Partial<UpdateOptions> & Pick<UpdateOptions, "iteration" | "iterations" | "stateDir">
): UpdateOptions => ({
  ...{ seed: 1, epochs: 1, minibatchSize: 64, microTokens: 640 },
  ...{ learningRate: 3e-5, valueLearningRate: 3e-4, warmupIterations: 0, floor: 0.1, maxGradNorm: 1 },
  ...{ klCoefficient: 0.05, clip: 0.2, valueClip: 0.2, valueCoefficient: 0.1, gamma: 1, lambda: 0.95 },
  ...options
})

/** What a policy update reports; `kl` is nats per answer against the reference (k1). */
export interface UpdateMetrics {
  readonly iteration: number
  readonly loss: number
  readonly policy_loss: number
  readonly value_loss: number
  readonly approx_kl: number
  readonly clipfrac: number
  readonly kl: number
  readonly reward: number
  readonly advantage_std: number
  readonly learning_rate: number
  readonly grad_norm: number
  readonly tokens: number
  readonly seconds: number
}

/** A failure of a policy, with what it was about. `retryable` says whether the same request may succeed later. */
export class PolicyError extends Schema.TaggedError<PolicyError>()("PolicyError", {
  message: Schema.String,
  /** The sample that it concerns, if it concerns one. */
  id: Schema.optional(Schema.String),
  retryable: Schema.Boolean
}) {}

/** A language model with token ids and log-probabilities, which can learn. */
export class Policy extends Context.Service<
  Policy,
  {
    /** The name that records carry, so that a result can be traced to its model. */
    readonly model: string
    /** One sampled continuation. */
    readonly sample: (request: SampleRequest) => Effect.Effect<Completion, PolicyError>
    /**
     * The summed log-probability (nats) of each option as a continuation of the context: a normalised exponential of
     * these is the paper's soft label.
     */
    readonly choose: (
      id: string,
      context: ModelContext,
      options: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyArray<number>, PolicyError>
    /** The log-probability (nats) of each token of `completion` after `context`. */
    readonly logprobs: (example: Example) => Effect.Effect<ReadonlyArray<number>, PolicyError>
    /**
     * Supervised fine-tuning on the examples; one element a step, which is taken when it is asked for: between two of
     * them the policy is as the last one left it. Rows that cannot be used go to `onReject`. What else changes this
     * policy waits for the end: whoever takes the steps must not wait for such a thing between two of them.
     */
    readonly learn: (
      examples: ReadonlyArray<Example>,
      options: LearnOptions,
      onReject: (id: string, reason: string) => Effect.Effect<void>
    ) => Stream.Stream<StepMetrics, PolicyError>
    /** One policy update from a batch of scored rollouts; the state after it is kept in `stateDir`. */
    readonly update: (
      rollouts: ReadonlyArray<ScoredRollout>,
      options: UpdateOptions
    ) => Effect.Effect<UpdateMetrics, PolicyError>
    /** The number of finished updates found in `stateDir` (restoring the policy to that state), 0 if there are none. */
    readonly restore: (stateDir: string) => Effect.Effect<number, PolicyError>
    /** Writes the adapter as a PEFT folder that loads on the base model alone. */
    readonly save: (dir: string) => Effect.Effect<void, PolicyError>
  }
>()("charter/Policy") {}
