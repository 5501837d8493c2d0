/**
 * OnnxModels: the models of a Hugging Face folder, run by the engine in a worker thread of its own.
 *
 * @example
 * program.pipe(Effect.provide(OnnxModels.layer({ dir: "SmolLM2-135M-Instruct" })))
 */
import { Effect, Layer, Stream } from "effect"
import type { RpcClientError } from "effect/rpc"
import * as path from "node:path"
import { Source } from "../../engine/EngineRpc.ts"
import type { EngineError } from "../../engine/EngineRpc.ts"
import type { Options as EngineOptions } from "../../engine/Engine.ts"
import * as EngineWorker from "../../engine/EngineWorker.ts"
import * as TokenLists from "../../engine/TokenLists.ts"
import * as Turn from "../../engine/Turn.ts"
import * as Checkpoint from "../../model/Checkpoint.ts"
import * as Finite from "../../model/Finite.ts"
import * as Fingerprint from "../../model/Fingerprint.ts"
import * as HubModel from "../../model/HubModel.ts"
import * as Memory from "../../model/Memory.ts"
import { Models } from "../../Models.ts"
import { LearnOptions, Policy, PolicyError, SamplingOptions, UpdateOptions } from "../../Policy.ts"
import type { ModelContext, ScoredRollout, StepMetrics, UpdateMetrics } from "../../Policy.ts"
import { RewardModel, RewardModelError } from "../../RewardModel.ts"
import * as TextCodec from "./TextCodec.ts"
import { wrong } from "./Wrong.ts"

/** What fails in the engine, or on the way to it. */
type Failure = EngineError | PolicyError | RpcClientError.RpcClientError

/** An engine that is gone says nothing about what it was asked. */
const said = (error: Failure, id: string | undefined) => ({
  ...(error._tag === "RpcClientError"
    ? { message: `The engine is gone: ${error.message}`, retryable: true }
    : { message: error.message, retryable: error.retryable }),
  ...(id === undefined ? {} : { id })
})

const policyError = (id?: string) => (error: Failure) => new PolicyError(said(error, id))
const rewardModelError = (id?: string) => (error: Failure) => new RewardModelError(said(error, id))

const wrongSampling = wrong(SamplingOptions)
const wrongLearning = wrong(LearnOptions)
const wrongUpdate = wrong(UpdateOptions)
const wrongSource = wrong(Source)

/** The same of rollouts; by hand, as a schema would look at each token as a value of its own. */
const wrongRollouts = (rollouts: ReadonlyArray<ScoredRollout>): string | undefined => {
  const ids = (list: ReadonlyArray<number>) => list.every(Number.isSafeInteger)
  const strange = rollouts.find(({ promptIds, tokenIds }) => !ids(promptIds) || !ids(tokenIds))
  if (strange !== undefined) return `the tokens of the rollout ${strange.id} are not all whole numbers`
  const unknown = rollouts.find(({ logprobs, reward }) => ![reward, ...logprobs].every(Number.isFinite))
  return unknown && `the reward or a log-probability of the rollout ${unknown.id} is not finite`
}

/** Refuses what is wrong with a request, if anything is. */
const refuse = (problem: string | undefined, id?: string): Effect.Effect<void, PolicyError> => {
  if (problem === undefined) return Effect.void
  const message = `The request cannot be carried out; ${problem}.`
  return Effect.fail(new PolicyError({ message, retryable: false, ...(id === undefined ? {} : { id }) }))
}

/** The names that adapters have in the engine: a policy and a reward model may be called the same. */
const engineName = {
  policy: (name: string) => `policy ${name}`,
  reference: (name: string) => `reference ${name}`,
  rewardModel: (name: string) => `reward model ${name}`
}

type OnReject = Parameters<Policy["Service"]["learn"]>[2]

/** A context as a prompt's tokens; one that cannot be put to the model is a row that cannot be used. */
const promptOf = (
  codec: TextCodec.TextCodec,
  id: string,
  context: ModelContext,
  onReject: OnReject
): Effect.Effect<ReadonlyArray<number> | undefined> =>
  Effect.catch(codec.context(id, context), ({ message }) => Effect.as(onReject(id, message), undefined))

const neverLearns = (what: string) =>
  new PolicyError({ message: `The base model ${what}; ask Models.policy for one that learns.`, retryable: false })

/** A policy over the base alone (`name` null) or over one of its adapters. */
const policy = (
  client: EngineWorker.Client,
  codec: TextCodec.TextCodec,
  maxPositions: number,
  model: string,
  name: string | null
): Policy["Service"] => {
  const adapter = name === null ? null : engineName.policy(name)
  return Policy.of({
    model,
    sample: Effect.fnUntraced(function* ({ context, stop = [], ...request }) {
      const { id } = request
      yield* refuse(wrongSampling(request), id)
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
          yield* refuse(wrongLearning(options))
          const most = Math.min(options.maxLength, maxPositions)
          const names: Array<string> = []
          const rows = TokenLists.builder()
          const from: Array<number> = []
          for (const { completion, context, finish, id } of examples) {
            const prompt = yield* promptOf(codec, id, context, onReject)
            if (prompt === undefined) continue
            const ids = [...prompt, ...codec.completion(completion, finish)]
            if (completion.trim() === "") yield* onReject(id, "the completion is empty: there is nothing to learn")
            else if (ids.length > most) yield* onReject(id, tooLong(ids.length, most))
            else {
              names.push(id)
              rows.add(ids)
              from.push(prompt.length)
            }
          }
          return client.LearnSupervised({ adapter, names, rows: rows.lists(), from, options })
        })
      ).pipe(
        Stream.map((metrics) => metrics as StepMetrics),
        Stream.mapError(policyError())
      ),
    update: Effect.fnUntraced(function* (rollouts, options) {
      if (adapter === null || name === null) return yield* neverLearns("is never updated")
      yield* refuse(wrongUpdate(options) ?? wrongRollouts(rollouts))
      const metrics = yield* client
        .Update({ adapter, reference: engineName.reference(name), rollouts, options })
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

const notProbable = (probability: number) => `the probability ${probability} is not between 0 and 1`
const noScore = (score: number) => `The score is ${score}; train the reward model with a lower learning rate.`
const tooLong = (length: number, most: number) => `${length} tokens are more than the ${most} that a row may have`

/** A reward model over an adapter with a score head. */
const rewardModel = (
  client: EngineWorker.Client,
  codec: TextCodec.TextCodec,
  maxPositions: number,
  model: string,
  adapter: string
): RewardModel["Service"] =>
  RewardModel.of({
    model,
    score: Effect.fnUntraced(function* ({ completion, context, id }) {
      const prompt = yield* Effect.mapError(codec.context(id, context), rewardModelError(id))
      const score = yield* client
        .Score({ ids: [...prompt, ...codec.completion(completion)], adapter })
        .pipe(Effect.mapError(rewardModelError(id)))
      if (!Number.isFinite(score)) return yield* new RewardModelError({ message: noScore(score), id, retryable: false })
      return score
    }),
    learn: (examples, options, onReject) =>
      Stream.unwrap(
        Effect.gen(function* () {
          yield* refuse(wrongLearning(options))
          const most = Math.min(options.maxLength, maxPositions)
          const names: Array<string> = []
          const [firsts, seconds] = [TokenLists.builder(), TokenLists.builder()]
          const probabilities: Array<number> = []
          for (const { context, first, id, probability, second } of examples) {
            const prompt = yield* promptOf(codec, id, context, onReject)
            if (prompt === undefined) continue
            const [a, b] = [first, second].map((text) => [...prompt, ...codec.completion(text)]) as [number[], number[]]
            const longest = Math.max(a.length, b.length)
            if (first === second) yield* onReject(id, "both answers are the same: there is nothing to prefer")
            else if (longest > most) yield* onReject(id, tooLong(longest, most))
            else if (!(probability >= 0 && probability <= 1)) yield* onReject(id, notProbable(probability))
            else {
              names.push(id)
              firsts.add(a)
              seconds.add(b)
              probabilities.push(probability)
            }
          }
          const lists = { first: firsts.lists(), second: seconds.lists() }
          return client.LearnPreferences({ adapter, names, ...lists, probabilities, options })
        })
      ).pipe(
        Stream.map((metrics) => metrics as StepMetrics),
        Stream.mapError(rewardModelError())
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
      const fingerprint = yield* Fingerprint.ofText(checkpoint)
      const client = yield* EngineWorker.client({ ...options, dir })
      // Meanwhile the worker compiles.
      yield* Finite.check(checkpoint)
      const { maxPositions } = checkpoint.config
      const name = hub?.name ?? path.basename(dir)
      return Models.of({
        base: policy(client, codec, maxPositions, name, null),
        chat: codec.chat,
        description: {
          name,
          family: checkpoint.config.family,
          parameters: Memory.parameterCount(checkpoint.config),
          fingerprint,
          ...(hub === undefined ? {} : { revision: hub.revision })
        },
        policy: Effect.fnUntraced(function* (adapter, source) {
          yield* refuse(wrongSource(source))
          yield* client
            .MakeAdapter({
              name: engineName.policy(adapter),
              source,
              head: "value",
              reference: engineName.reference(adapter)
            })
            .pipe(Effect.mapError(policyError()))
          return policy(client, codec, maxPositions, `${name}+${adapter}`, adapter)
        }),
        rewardModel: Effect.fnUntraced(function* (adapter, source) {
          yield* Effect.mapError(refuse(wrongSource(source)), rewardModelError())
          yield* client
            .MakeAdapter({ name: engineName.rewardModel(adapter), source, head: "score", reference: null })
            .pipe(Effect.mapError(rewardModelError()))
          return rewardModel(client, codec, maxPositions, `${name}+${adapter}`, engineName.rewardModel(adapter))
        })
      })
    })
  )
