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

/** A request for one sampled continuation. All randomness comes from (`seed`, `id`, position). */
export interface SampleRequest {
  readonly id: string
  readonly context: ModelContext
  readonly seed: number
  readonly maxTokens: number
  /** 0 is greedy. */
  readonly temperature: number
  /** The answer ends before the first of these texts, besides the model's own end tokens. */
  readonly stop?: ReadonlyArray<string>
}

/** A sampled continuation; `tokenIds` and `logprobs` (nats, at temperature 1) include the end token if there is one. */
export interface Completion {
  readonly text: string
  readonly tokenIds: ReadonlyArray<number>
  readonly logprobs: ReadonlyArray<number>
  readonly promptIds: ReadonlyArray<number>
  readonly finish: "stop" | "length"
}

/** A supervised example: `completion` is learnt (with the model's end token), `context` is not. */
export interface Example {
  readonly id: string
  readonly context: ModelContext
  readonly completion: string
}

/** How a training goes; the names and defaults are the field's. */
export interface LearnOptions {
  readonly seed: number
  readonly epochs: number
  readonly batchSize: number
  /** At most this many (padded) tokens in one run; larger batches accumulate gradients. */
  readonly microTokens: number
  readonly learningRate: number
  readonly schedule: "constant" | "linear" | "cosine"
  readonly warmupSteps: number
  /** The schedule falls to this share of the learning rate. */
  readonly floor: number
  readonly weightDecay: number
  readonly maxGradNorm: number
  /** Rows longer than this many tokens are rejected. */
  readonly maxLength: number
  /** Where the state is kept for resuming; a training found there is continued, a finished one is not repeated. */
  readonly stateDir: string
}

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
export interface ScoredRollout {
  readonly id: string
  readonly promptIds: ReadonlyArray<number>
  readonly tokenIds: ReadonlyArray<number>
  readonly logprobs: ReadonlyArray<number>
  /** The scalar reward of the whole answer, without the KL term. */
  readonly reward: number
}

/** How a policy update goes: proximal policy optimisation with a value head (Schulman et al. 2017). */
export interface UpdateOptions {
  readonly seed: number
  /** The iteration, from 0; with `iterations` it sets the learning rate. */
  readonly iteration: number
  readonly iterations: number
  readonly epochs: number
  readonly minibatchSize: number
  readonly microTokens: number
  readonly learningRate: number
  readonly valueLearningRate: number
  readonly warmupIterations: number
  readonly floor: number
  readonly klCoefficient: number
  readonly clip: number
  readonly valueClip: number
  readonly valueCoefficient: number
  readonly gamma: number
  readonly lambda: number
  readonly maxGradNorm: number
  readonly stateDir: string
}

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
    /** Supervised fine-tuning on the examples; one element a step; rows that cannot be used go to `onReject`. */
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
