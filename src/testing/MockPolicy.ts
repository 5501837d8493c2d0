/**
 * MockPolicy: a policy that follows scripts, learns nothing and remembers everything it was asked.
 *
 * Its tokens are the UTF-16 units of the text and an end token 0, each with a log-probability of -1.
 */
import { Effect, Layer, Schema, Stream } from "effect"
import { Policy, PolicyError } from "../Policy.ts"
import type {
  Completion,
  Example,
  LearnOptions,
  ModelContext,
  SampleRequest,
  ScoredRollout,
  UpdateMetrics,
  UpdateOptions
} from "../Policy.ts"
import * as Recording from "./Recording.ts"
import * as Script from "./Script.ts"

/** A request for log-probabilities of options. */
export interface ChooseCall {
  readonly id: string
  readonly context: ModelContext
  readonly options: ReadonlyArray<string>
}

export interface Scripts extends Script.Options {
  /** The text of each sample, or the whole completion. */
  readonly sample?: Script.Script<SampleRequest, string | Completion> | undefined
  /** The log-probability of each option; all -1 if not given. */
  readonly choose?: ((call: ChooseCall, n: number) => ReadonlyArray<number> | undefined) | undefined
  /** The steps of a training; one for each started batch of each epoch if not given. */
  readonly steps?: number | undefined
}

export interface MockPolicy {
  readonly service: Policy["Service"]
  readonly layer: Layer.Layer<Policy>
  readonly samples: ReadonlyArray<SampleRequest>
  readonly choices: ReadonlyArray<ChooseCall>
  readonly trainings: ReadonlyArray<{ readonly examples: ReadonlyArray<Example>; readonly options: LearnOptions }>
  readonly updates: ReadonlyArray<{ readonly rollouts: ReadonlyArray<ScoredRollout>; readonly options: UpdateOptions }>
  /** The folders that it was saved to. */
  readonly saved: ReadonlyArray<string>
}

const tokens = (text: string): ReadonlyArray<number> => Array.from(text, (_, i) => text.charCodeAt(i))

const contextTokens = (context: ModelContext): ReadonlyArray<number> =>
  tokens(typeof context === "string" ? context : context.messages.map(({ content }) => content).join("\n"))

const completionOf = (context: ModelContext, text: string): Completion => {
  const tokenIds = [...tokens(text), 0]
  return { text, tokenIds, logprobs: tokenIds.map(() => -1), promptIds: contextTokens(context), finish: "stop" }
}

const fails = (message: string) => new PolicyError({ message, retryable: false })

/** A policy over scripts; `failOn` counts the calls of `sample`, and of `choose`, each for itself. */
export const make = (scripts: Scripts = {}): MockPolicy => {
  const model = scripts.model ?? "mock-policy"
  const sample = Script.player<SampleRequest, string | Completion>(scripts.sample ?? "an answer", scripts, model)
  const choose = Script.player<ChooseCall, ReadonlyArray<number>>(
    scripts.choose ?? (({ options }) => options.map(() => -1)),
    scripts,
    model
  )
  const trainings: Array<MockPolicy["trainings"][number]> = []
  const updates: Array<MockPolicy["updates"][number]> = []
  const saved: Array<string> = []
  // Finished updates by state folder: what `restore` finds again.
  const finished = new Map<string, number>()

  const service = Policy.of({
    model,
    sample: (request) =>
      sample
        .play(request, fails)
        .pipe(Effect.map((made) => (typeof made === "string" ? completionOf(request.context, made) : made))),
    choose: (id, context, options) => choose.play({ id, context, options }, fails),
    logprobs: ({ completion }) => Effect.succeed(tokens(completion).map(() => -1)),
    learn: (examples, options) =>
      Stream.suspend(() => {
        trainings.push({ examples, options })
        const steps = scripts.steps ?? Math.ceil(examples.length / options.batchSize) * options.epochs
        return Stream.range(1, steps).pipe(
          Stream.map((step) => ({
            step,
            steps,
            loss: 1 / step,
            learning_rate: options.learningRate,
            grad_norm: 1,
            tokens: options.batchSize,
            seconds: 0
          }))
        )
      }),
    update: (rollouts, options) =>
      Effect.sync(() => {
        updates.push({ rollouts, options })
        finished.set(options.stateDir, options.iteration + 1)
        return metrics(rollouts, options)
      }),
    restore: (stateDir) => Effect.sync(() => finished.get(stateDir) ?? 0),
    save: (dir) => Effect.sync(() => void saved.push(dir))
  })
  const layer = Layer.succeed(Policy, service)
  return { service, layer, samples: sample.calls, choices: choose.calls, trainings, updates, saved }
}

const metrics = (rollouts: ReadonlyArray<ScoredRollout>, options: UpdateOptions): UpdateMetrics => ({
  iteration: options.iteration,
  loss: 0,
  policy_loss: 0,
  value_loss: 0,
  approx_kl: 0,
  clipfrac: 0,
  kl: 0,
  reward: rollouts.reduce((sum, { reward }) => sum + reward, 0) / Math.max(1, rollouts.length),
  advantage_std: 1,
  learning_rate: options.learningRate,
  grad_norm: 1,
  tokens: rollouts.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0),
  seconds: 0
})

const sampleKey = (request: SampleRequest) => Recording.keyOf("sample", request)
const chooseKey = (call: ChooseCall) => Recording.keyOf("choose", call)

/** Log-probabilities as JSON holds them: an option that is impossible has minus infinity, of which JSON makes null. */
const Logprobs = Schema.toCodecJson(Schema.Array(Schema.Number))
const toJson = Schema.encodeSync(Logprobs)
const fromJson = Schema.decodeUnknownSync(Logprobs)

/**
 * The policy around it, with its samples and choices written into a recording; give it the real one with
 * `Layer.provide`. What it learns is not recorded.
 */
export const record = (recording: Recording.Recording): Layer.Layer<Policy, never, Policy> =>
  Layer.effect(
    Policy,
    Effect.map(Policy, (real) => ({
      ...real,
      sample: (request) =>
        Effect.tap(real.sample(request), (completion) =>
          Effect.sync(() => recording.set(sampleKey(request), request.id, { ...completion }))
        ),
      choose: (id, context, options) =>
        Effect.tap(real.choose(id, context, options), (logprobs) =>
          Effect.sync(() => recording.set(chooseKey({ id, context, options }), id, toJson(logprobs)))
        )
    }))
  )

/** A policy that samples and chooses from a recording. */
export const replay = (recording: Recording.Recording, options: Script.Options = {}): MockPolicy =>
  make({
    ...options,
    sample: (request: SampleRequest) => recording.get(sampleKey(request)) as Completion | undefined,
    choose: (call) => {
      const recorded = recording.get(chooseKey(call))
      return recorded === undefined ? undefined : fromJson(recorded)
    }
  })
