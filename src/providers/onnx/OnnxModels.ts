/**
 * OnnxModels: the models of a Hugging Face folder, run by the engine in a worker thread of its own.
 *
 * @example
 * program.pipe(Effect.provide(OnnxModels.layer({ dir: "SmolLM2-135M-Instruct" })))
 */
import { Effect, Layer, Stream } from "effect"
import * as path from "node:path"
import type { Options as EngineOptions } from "../../engine/Engine.ts"
import * as EngineWorker from "../../engine/EngineWorker.ts"
import * as Turn from "../../engine/Turn.ts"
import * as Checkpoint from "../../model/Checkpoint.ts"
import * as Finite from "../../model/Finite.ts"
import * as Fingerprint from "../../model/Fingerprint.ts"
import * as HubModel from "../../model/HubModel.ts"
import { parameters } from "../../model/ModelConfig.ts"
import { Models } from "../../Models.ts"
import { Policy, PolicyError } from "../../Policy.ts"
import type { StepMetrics, UpdateMetrics } from "../../Policy.ts"
import { RewardModel, RewardModelError } from "../../RewardModel.ts"
import * as TextCodec from "./TextCodec.ts"

/** What anything that fails in the engine or on the way to it says. */
interface Failure {
  readonly message: string
  readonly retryable?: boolean
}

const policyError = (id?: string) => (error: Failure) =>
  new PolicyError({ message: error.message, retryable: error.retryable ?? false, ...(id === undefined ? {} : { id }) })

const rewardModelError = (id?: string) => (error: Failure) =>
  new RewardModelError({
    message: error.message,
    retryable: error.retryable ?? false,
    ...(id === undefined ? {} : { id })
  })

const neverLearns = (what: string) =>
  new PolicyError({ message: `The base model ${what}; ask Models.policy for one that learns.`, retryable: false })

/** A policy over the base alone (`adapter` null) or over one of its adapters. */
const policy = (
  client: EngineWorker.Client,
  codec: TextCodec.TextCodec,
  model: string,
  adapter: string | null
): Policy["Service"] => {
  const reference = `${adapter}.reference`
  return Policy.of({
    model,
    sample: Effect.fnUntraced(function* ({ context, stop = [], ...request }) {
      const { id } = request
      const promptIds = yield* codec.context(id, context)
      const stops = yield* codec.stops(id, stop)
      const [continuation] = yield* client
        .Generate({ ...request, ids: promptIds, adapter, n: 1, ...stops })
        .pipe(Effect.mapError(policyError(id)))
      yield* Turn.pause
      return { ...continuation!, promptIds, text: codec.answer(continuation!.tokenIds, stop) }
    }),
    choose: Effect.fnUntraced(function* (id, context, options) {
      const ids = yield* codec.context(id, context)
      return yield* client
        .Choose({ ids, options: options.map(codec.encode), adapter })
        .pipe(Effect.mapError(policyError(id)))
    }),
    logprobs: Effect.fnUntraced(function* ({ completion, context, id }) {
      const prompt = yield* codec.context(id, context)
      return yield* client
        .Logprobs({ ids: [...prompt, ...codec.encode(completion)], from: prompt.length, adapter })
        .pipe(Effect.mapError(policyError(id)))
    }),
    learn: (examples, options, onReject) =>
      Stream.unwrap(
        Effect.gen(function* () {
          if (adapter === null) return yield* neverLearns("does not learn")
          const rows: Array<{ id: string; ids: Int32Array; from: number }> = []
          for (const { completion, context, id } of examples) {
            const prompt = yield* codec.context(id, context)
            const ids = [...prompt, ...codec.completion(completion)]
            if (completion.trim() === "") yield* onReject(id, "the completion is empty: there is nothing to learn")
            else if (ids.length > options.maxLength) yield* onReject(id, tooLong(ids.length, options.maxLength))
            else rows.push({ id, ids: Int32Array.from(ids), from: prompt.length })
          }
          return client.LearnSupervised({ adapter, rows, options })
        })
      ).pipe(
        Stream.map((metrics) => metrics as StepMetrics),
        Stream.mapError((error) => (error instanceof PolicyError ? error : policyError()(error)))
      ),
    update: Effect.fnUntraced(function* (rollouts, options) {
      if (adapter === null) return yield* neverLearns("is never updated")
      const metrics = yield* client
        .Update({ adapter, reference, rollouts, options })
        .pipe(Effect.mapError(policyError()))
      return metrics as unknown as UpdateMetrics
    }),
    restore: Effect.fnUntraced(function* (stateDir) {
      if (adapter === null) return yield* neverLearns("is never updated")
      return yield* client.Restore({ adapter, stateDir }).pipe(Effect.mapError(policyError()))
    }),
    save: Effect.fnUntraced(function* (dir) {
      if (adapter === null) return yield* neverLearns("has no adapter to save")
      yield* client.SaveAdapter({ name: adapter, dir }).pipe(Effect.mapError(policyError()))
    })
  })
}

const tooLong = (length: number, most: number) => `${length} tokens are more than the ${most} that a row may have`

/** A reward model over an adapter with a score head. */
const rewardModel = (
  client: EngineWorker.Client,
  codec: TextCodec.TextCodec,
  model: string,
  adapter: string
): RewardModel["Service"] =>
  RewardModel.of({
    model,
    score: Effect.fnUntraced(function* ({ completion, context, id }) {
      const prompt = yield* Effect.mapError(codec.context(id, context), rewardModelError(id))
      return yield* client
        .Score({ ids: [...prompt, ...codec.completion(completion)], adapter })
        .pipe(Effect.mapError(rewardModelError(id)))
    }),
    learn: (examples, options, onReject) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const pairs: Array<{ id: string; first: Int32Array; second: Int32Array; probability: number }> = []
          for (const { context, first, id, probability, second } of examples) {
            const prompt = yield* codec.context(id, context)
            const [a, b] = [first, second].map((text) => [...prompt, ...codec.completion(text)]) as [number[], number[]]
            const longest = Math.max(a.length, b.length)
            if (first === second) yield* onReject(id, "both answers are the same: there is nothing to prefer")
            else if (longest > options.maxLength) yield* onReject(id, tooLong(longest, options.maxLength))
            else pairs.push({ id, first: Int32Array.from(a), second: Int32Array.from(b), probability })
          }
          return client.LearnPreferences({ adapter, pairs, options })
        })
      ).pipe(
        Stream.map((metrics) => metrics as StepMetrics),
        Stream.mapError((error) => rewardModelError()(error))
      ),
    save: (dir) => client.SaveAdapter({ name: adapter, dir }).pipe(Effect.mapError(rewardModelError()))
  })

/**
 * The models of `dir`, a folder or a name of the hub; fails with what is wrong with it. The engine ends with the layer.
 */
export const layer = (options: EngineOptions) =>
  Layer.effect(
    Models,
    Effect.gen(function* () {
      const { dir, hub } = yield* HubModel.locate(options.dir)
      const checkpoint = yield* Checkpoint.open(dir)
      const codec = yield* TextCodec.load(checkpoint)
      const fingerprint = yield* Fingerprint.of(checkpoint)
      const client = yield* EngineWorker.client({ ...options, dir })
      // Meanwhile the worker compiles.
      yield* Finite.check(checkpoint)
      const name = hub?.name ?? path.basename(dir)
      let count = 0
      for (const shape of parameters(checkpoint.config).values()) count += shape.reduce((a, b) => a * b, 1)
      return Models.of({
        base: policy(client, codec, name, null),
        chat: codec.chat,
        description: {
          name,
          family: checkpoint.config.family,
          parameters: count,
          fingerprint,
          ...(hub === undefined ? {} : { revision: hub.revision })
        },
        policy: Effect.fnUntraced(function* (adapter, source) {
          yield* client
            .MakeAdapter({ name: adapter, source, head: "value", reference: `${adapter}.reference` })
            .pipe(Effect.mapError(policyError()))
          return policy(client, codec, `${name}+${adapter}`, adapter)
        }),
        rewardModel: Effect.fnUntraced(function* (adapter, source) {
          yield* client
            .MakeAdapter({ name: adapter, source, head: "score", reference: null })
            .pipe(Effect.mapError(rewardModelError()))
          return rewardModel(client, codec, `${name}+${adapter}`, adapter)
        })
      })
    })
  )
