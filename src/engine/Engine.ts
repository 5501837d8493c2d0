/**
 * Engine: the handlers of `EngineRpc` over one base checkpoint.
 *
 * It holds the base, the adapters by name, one decoder and one scorer. It knows token ids, never a stage; a tokenizer
 * is used for nothing but recognising stop texts.
 */
import { Effect, Option, Semaphore, Stream } from "effect"
import { totalmem } from "node:os"
import * as Checkpoint from "../model/Checkpoint.ts"
import * as Lora from "../model/Lora.ts"
import * as Memory from "../model/Memory.ts"
import type * as Quantized from "../model/Quantized.ts"
import * as Tokenizer from "../model/Tokenizer.ts"
import type { Device } from "../onnx/Device.ts"
import * as AdapterTable from "./AdapterTable.ts"
import * as Adapters from "./Adapters.ts"
import * as Base from "./Base.ts"
import * as Batch from "./Batch.ts"
import * as Compiled from "./Compiled.ts"
import * as Decoder from "./Decoder.ts"
import { asEngineError, refuse, told, toldStream } from "./EngineFailure.ts"
import { EngineRpc } from "./EngineRpc.ts"
import type { EngineError, Source } from "./EngineRpc.ts"
import * as Forward from "./Forward.ts"
import * as Learner from "./Learner.ts"
import * as Objective from "./Objective.ts"
import * as PolicyUpdate from "./PolicyUpdate.ts"
import * as Scorer from "./Scorer.ts"
import * as StopTexts from "./StopTexts.ts"
import * as TokenLists from "./TokenLists.ts"
import * as Training from "./Training.ts"
import * as TrainingData from "./TrainingData.ts"
import * as TrainingIdentity from "./TrainingIdentity.ts"
import * as TrainingState from "./TrainingState.ts"

/** What an engine runs on. */
export interface Options {
  /** The Hugging Face folder of the base. */
  readonly dir: string
  /** Bytes that keys and values may take; `Decoder.usualMemory` if not given. */
  readonly cacheMemory?: number
  /** Rows of a decoding batch at most. */
  readonly maxRows?: number
  /** Padded tokens of a scoring run at most. */
  readonly scoreTokens?: number
  /** What decoding and scoring compute the base's linear maps in; learning does it in fp32. */
  readonly precision?: Quantized.Precision
  /** What is computed on: the processor if not given. */
  readonly device?: Device
}

/** A skipped step is no step of a run's metrics; it is told. */
const onSkip = ({ grad_norm, ids, loss, step }: Training.Skip) =>
  Effect.logWarning(`Step ${step} was skipped: loss ${loss}, gradient norm ${grad_norm}, samples ${ids.join(", ")}.`)

/** Continuations of one prompt that may be asked for together. */
const mostContinuations = 10_000

/** The tokens of rows with these names, each of which has one of the numbers. */
const listsOf = (lists: TokenLists.TokenLists, names: ReadonlyArray<string>, numbers: ReadonlyArray<number>) => {
  const uneven = numbers.length === names.length ? undefined : `${numbers.length} numbers for ${names.length} rows`
  const problem = uneven ?? TokenLists.problem(lists, names.length)
  return problem === undefined ? Effect.succeed(TokenLists.toArrays(lists)) : refuse(`The request has ${problem}.`)
}

const unpredicted = "The first token of a sequence has nothing before it that it could be predicted from."

/** The handlers; the base's sessions live as long as the layer. */
export const layer = (options: Options) =>
  EngineRpc.toLayer(
    Effect.gen(function* () {
      const opened = yield* Effect.mapError(Checkpoint.open(options.dir), asEngineError)
      const base = yield* Effect.mapError(Base.make(opened, options), asEngineError)
      // What learns in 32 bits on the same device.
      const checkpoint: Base.Base = { ...opened, device: options.device ?? "cpu" }
      // Most who ask have a tokenizer of their own; a second one is loaded when a stop text is to be recognised.
      const tokenizer = yield* Effect.cached(Effect.option(Tokenizer.load(options.dir)))
      const decoder = yield* Decoder.make(base, {
        memory: options.cacheMemory ?? Decoder.usualMemory(base.config, totalmem()),
        maxRows: options.maxRows ?? 256
      })
      const scorer = yield* Scorer.make(base, {
        maxTokens: options.scoreTokens ?? Memory.scoringTokens,
        busy: decoder.busy
      })
      const adapters = AdapterTable.make()
      const { alone, aloneScoped, headed, named, optional } = adapters
      // Policies under update: what is compiled for them and their optimizers' states, which other learning outdates.
      const learners = yield* Compiled.make<Learner.Learner>()
      const states = new Map<string, Learner.State>()
      // Two who write the same folder at once would take each other's files away, and half a save is no adapter.
      const saving = yield* Semaphore.make(1)
      const { maxPositions, vocabSize } = checkpoint.config

      /** Refuses rows that the network cannot read, with `more` tokens than these (fewer, where it is negative). */
      const check = (ids: ReadonlyArray<number>, more = 0): Effect.Effect<void, EngineError> => {
        if (ids.length === 0) return refuse("A sequence has no tokens.")
        if (ids.length + more > maxPositions) {
          return refuse(`${ids.length + more} tokens are more than the ${maxPositions} positions of the model.`)
        }
        const strange = ids.find((id) => id < 0 || id >= vocabSize)
        if (strange === undefined) return Effect.void
        return refuse(`The token ${strange} is not in the model's vocabulary of ${vocabSize}.`)
      }

      const score = (request: Scorer.Request) => Effect.mapError(scorer.score(request), asEngineError)

      const stopper = Effect.fnUntraced(function* (texts: ReadonlyArray<string>) {
        if (texts.length === 0) return {}
        const loaded = yield* tokenizer
        if (Option.isSome(loaded)) return { stop: StopTexts.recognise(texts, loaded.value.decode) }
        return yield* refuse(
          `No stop text can be seen without a tokenizer, and ${options.dir} has none that can be read.`
        )
      })

      return {
        Generate: Effect.fnUntraced(function* ({ adapter: name, n, stopIds, stopTexts, ...request }) {
          yield* check(request.ids, 1)
          if (!(n >= 1 && n <= mostContinuations)) {
            return yield* refuse(`${n} continuations cannot be drawn; ask for 1 to ${mostContinuations}.`)
          }
          const room = maxPositions - request.ids.length
          const common = {
            ...request,
            adapter: yield* optional(name),
            maxTokens: Math.min(request.maxTokens, room),
            stopIds: new Set(stopIds),
            ...(yield* stopper(stopTexts))
          }
          return yield* Effect.forEach(
            Array.from({ length: n }, (_, i) => (i === 0 ? {} : { sample: i })),
            (which) => decoder.generate({ ...common, ...which }),
            { concurrency: "unbounded" }
          )
        }, told),

        Logprobs: Effect.fnUntraced(function* ({ adapter, from, ids }) {
          yield* check(ids)
          if (from === 0) return yield* refuse(unpredicted)
          if (from < 0 || from > ids.length) return yield* refuse(`There is no place ${from} in ${ids.length} tokens.`)
          const targets = ids.slice(from)
          const at = targets.map((_, i) => from + i - 1)
          return yield* score({ ids, adapter: yield* optional(adapter), kind: "logprobs", at, targets })
        }, told),

        Choose: Effect.fnUntraced(function* ({ adapter, ids, options: choices }) {
          const known = yield* optional(adapter)
          if (ids.length === 0) return yield* refuse(unpredicted)
          for (const choice of choices) {
            if (choice.length === 0) return yield* refuse("An option has no tokens.")
            yield* check([...ids, ...choice], -1)
          }
          // Options of one token are read off the same position.
          if (choices.every((choice) => choice.length === 1)) {
            const at = choices.map(() => ids.length - 1)
            return yield* score({ ids, adapter: known, kind: "logprobs", at, targets: choices.map(([id]) => id!) })
          }
          return yield* Effect.forEach(
            choices,
            (choice) =>
              Effect.map(
                score({
                  ids: [...ids, ...choice.slice(0, -1)],
                  adapter: known,
                  kind: "logprobs",
                  at: choice.map((_, i) => ids.length + i - 1),
                  targets: choice
                }),
                (logprobs) => logprobs.reduce((a, b) => a + b, 0)
              ),
            { concurrency: "unbounded" }
          )
        }, told),

        Score: Effect.fnUntraced(function* ({ adapter, ids }) {
          yield* check(ids)
          const known = yield* headed(adapter, "score")
          const [value] = yield* score({ ids, adapter: known, kind: "score", at: [ids.length - 1], targets: [] })
          return value!
        }, told),

        MakeAdapter: Effect.fnUntraced(
          function* ({ head, name, reference, source }) {
            const lora = yield* adapterOf(checkpoint, source, head === "score")
            yield* learners.drop(name)
            states.delete(name)
            adapters.set(name, Adapters.fromLora(lora, checkpoint.config, { value: head === "value" }))
            if (reference !== null) adapters.set(reference, Adapters.fromLora(lora, checkpoint.config))
          },
          (handler, { name }) => told(alone(name)(handler))
        ),

        SaveAdapter: Effect.fnUntraced(function* ({ dir, name }) {
          const adapter = Adapters.toLora(yield* named(name))
          yield* saving.withPermit(Effect.uninterruptible(Lora.write(dir, adapter, checkpoint.dir)))
        }, told),

        LearnSupervised: ({ adapter: name, from, names, options: how, rows }) =>
          Stream.unwrap(
            Effect.gen(function* () {
              yield* aloneScoped(name)
              const adapter = yield* named(name)
              const lists = yield* listsOf(rows, names, from)
              const weighted = lists.map((ids, i) => ({ id: names[i]!, ...Batch.answerRow(ids, from[i]!) }))
              for (const { id, ids, weights } of weighted) {
                yield* check(ids)
                if (!weights.includes(1, 1)) yield* refuse(`The row ${id} has no token to learn.`)
              }
              states.delete(name)
              const data = TrainingData.supervised(weighted, how)
              const training = TrainingIdentity.of("supervised", how, { names, lists: [rows], numbers: from })
              return Training.run(checkpoint, adapter, Objective.sft, data, { ...how, shared: true, onSkip, training })
            })
          ).pipe(toldStream, Stream.scoped),

        LearnPreferences: ({ adapter: name, first, names, options: how, probabilities, second }) =>
          Stream.unwrap(
            Effect.gen(function* () {
              yield* aloneScoped(name)
              const adapter = yield* headed(name, "score")
              const firsts = yield* listsOf(first, names, probabilities)
              const seconds = yield* listsOf(second, names, probabilities)
              const pairs = names.map((id, i) => ({
                id,
                first: firsts[i]!,
                second: seconds[i]!,
                probability: probabilities[i]!
              }))
              for (const { first, id, probability, second } of pairs) {
                yield* Effect.andThen(check(first), check(second))
                if (!(probability >= 0 && probability <= 1)) {
                  yield* refuse(`The pair ${id} has a probability of ${probability}, which is none.`)
                }
              }
              states.delete(name)
              const data = TrainingData.preferences(pairs, how)
              const samples = { names, lists: [first, second], numbers: probabilities }
              const training = TrainingIdentity.of("preferences", how, samples)
              return Training.run(checkpoint, adapter, Objective.bradleyTerry, data, {
                ...how,
                shared: true,
                onSkip,
                training
              })
            })
          ).pipe(toldStream, Stream.scoped),

        Update: Effect.fnUntraced(
          function* ({ adapter: name, options: how, reference, rollouts }) {
            const adapter = yield* headed(name, "value")
            const state = states.get(name) ?? Learner.initialState(adapter.vector)
            states.set(name, state)
            const { clip, microTokens, temperature = 1, valueClip, valueCoefficient } = how
            const learner = yield* learners.get(
              name,
              { shape: Adapters.key(adapter), clip, microTokens, temperature, valueClip, valueCoefficient },
              Learner.make(checkpoint, { layout: adapter.layout, scales: adapter.scales }, Objective.ppo(how), {
                microTokens,
                temperature
              })
            )
            for (const { id, logprobs, promptIds, tokenIds } of rollouts) {
              if (promptIds.length === 0) return yield* refuse(`${unpredicted} (rollout ${id})`)
              if (logprobs.length !== tokenIds.length) {
                const message = `The rollout ${id} has ${logprobs.length} log-probabilities for ${tokenIds.length} tokens.`
                return yield* refuse(message)
              }
              yield* check([...promptIds, ...tokenIds])
            }
            // Who samples or saves meanwhile has the policy before the update, and so has everyone where it fails or is
            // interrupted: whoever hears of a failure may ask for the same again.
            const next = Learner.copyOf(state)
            const models = {
              adapter: { ...adapter },
              reference: yield* named(reference),
              forward: Forward.over(scorer, temperature),
              learner,
              state: next
            }
            const metrics = yield* PolicyUpdate.make(models, rollouts, how)
            yield* Effect.uninterruptible(
              Effect.map(
                TrainingState.save(how.stateDir, next, how.iteration + 1, {}, TrainingIdentity.updates),
                () => {
                  Object.assign(state, next)
                  adapter.vector = next.parameters
                }
              )
            )
            return { ...metrics }
          },
          (handler, { adapter }) => told(alone(adapter)(handler))
        ),

        Restore: Effect.fnUntraced(
          function* ({ adapter: name, stateDir }) {
            const adapter = yield* named(name)
            const found = yield* TrainingState.load(stateDir, adapter.layout.size, TrainingIdentity.updates)
            if (found === undefined) return 0
            adapter.vector = found.state.parameters
            states.set(name, found.state)
            return found.progress
          },
          (handler, { adapter }) => told(alone(adapter)(handler))
        )
      }
    })
  )

/** An adapter from nothing or from a folder; with a score head where one is asked for. */
const adapterOf = Effect.fnUntraced(function* (
  checkpoint: Checkpoint.Checkpoint,
  source: typeof Source.Type,
  score: boolean
) {
  const { config } = checkpoint
  if (source._tag === "fresh") {
    const { alpha, rank, seed } = source
    return yield* Effect.fromResult(
      Lora.init(config, { rank, alpha, targets: Lora.allTargets(config) }, seed, { score })
    )
  }
  const read = yield* Lora.read(source.dir, config)
  return score ? Lora.withScore(read, config, source.seed) : read
})
