/**
 * World: models whose answers are a function of everything that was asked and learnt, and whose trainings live in files
 * as the engine's do. So a run that was stopped and continued shows every difference in its files.
 */
import { Deferred, Effect, Stream } from "effect"
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { Models } from "../../src/Models.ts"
import { Policy, PolicyError, type LearnOptions, type StepMetrics } from "../../src/Policy.ts"
import * as Random from "../../src/Random.ts"
import * as Settings from "../../src/recipes/Settings.ts"
import { RewardModel, RewardModelError } from "../../src/RewardModel.ts"
import * as Sample from "../../src/Sample.ts"
import { models as mocks, runIn } from "./Fixture.ts"

/** 100 prompts that ask for harm and 400 that ask for help. */
export const prompts = [
  ...Array.from({ length: 100 }, (_, i) => Sample.prompt(`harmful question ${i}`)),
  ...Array.from({ length: 400 }, (_, i) => Sample.prompt(`benign question ${i}`, "benign"))
]

const usual = Settings.forPrompts({ harmful: 100, benign: 400 })

export const settings: Settings.Settings = {
  ...usual,
  supervised: { ...usual.supervised, rounds: 2, prompts: 100, benign: 400 },
  preferences: { ...usual.preferences, prompts: 40, benign: 40 },
  reinforcement: { ...usual.reinforcement, iterations: 3, batchSize: 20, epochs: 1, calibrationPrompts: 20 },
  evaluation: { ...usual.evaluation, prompts: 40, benignRevisions: 5 },
  concurrency: 16
}

/** What happens around a call. Each call has a name of its own. */
export interface Watch {
  readonly begins?: (call: string) => Effect.Effect<void>
  /** The answer is there; nobody has it yet. */
  readonly ends?: (call: string) => Effect.Effect<void>
  readonly fails?: (call: string) => boolean
}

const digest = (...parts: ReadonlyArray<unknown>) => Sample.id("world", JSON.stringify(parts))

const write = (file: string, value: unknown) => {
  mkdirSync(join(file, ".."), { recursive: true })
  writeFileSync(`${file}.tmp`, JSON.stringify(value))
  renameSync(`${file}.tmp`, file)
}

const read = <A>(file: string): A | undefined => {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as A
  } catch {
    return undefined
  }
}

interface State {
  readonly weights: string
  readonly done: number
}

const adapterIn = (dir: string) => join(dir, "adapter.json")
const stateIn = (dir: string) => join(dir, "state.json")

/** The models of the world. */
export const models = (watch: Watch = {}): Models["Service"] => {
  const call = <A, E>(name: string, answer: () => A, failure: (message: string) => E) =>
    Effect.gen(function* () {
      yield* watch.begins?.(name) ?? Effect.void
      // Answers come in another order than questions.
      for (let i = Random.hash(name) % 4; i > 0; i--) yield* Effect.yieldNow
      if (watch.fails?.(name) === true) return yield* Effect.fail(failure(`${name} fails`))
      yield* watch.ends?.(name) ?? Effect.void
      return answer()
    })
  const policyError = (message: string) => new PolicyError({ message, retryable: false })

  /** A training: the weights after a step are a function of those before it, the rows and the step. */
  const training = (
    weights: { value: string },
    rows: ReadonlyArray<unknown>,
    { batchSize, epochs, learningRate, stateDir }: LearnOptions
  ) =>
    Stream.unwrap(
      Effect.sync(() => {
        const steps = epochs * Math.ceil(rows.length / batchSize)
        const found = read<State>(stateIn(stateDir))
        weights.value = found?.weights ?? weights.value
        return Stream.range((found?.done ?? 0) + 1, steps).pipe(
          Stream.rechunk(1),
          Stream.mapEffect((step) =>
            Effect.as(Effect.andThen(watch.begins?.(`step ${stateDir} ${step}`) ?? Effect.void, Effect.yieldNow), step)
          ),
          Stream.map((step): StepMetrics => {
            weights.value = digest(weights.value, rows, learningRate, step)
            if (step % 3 === 0 || step === steps) write(stateIn(stateDir), { weights: weights.value, done: step })
            const loss = Random.uniform(weights.value)
            const measured = { learning_rate: learningRate, grad_norm: 1, tokens: batchSize }
            return { step, steps, loss, ...measured, seconds: Math.random() }
          })
        )
      })
    )

  const policy = (model: string, start: string): Policy["Service"] => {
    const weights = { value: start }
    return Policy.of({
      model,
      sample: (request) =>
        call(
          `sample ${model} ${request.seed} ${request.id}`,
          () => {
            const text = `${model} says ${digest(weights.value, request)}`
            const tokenIds = Array.from(text, (c) => c.charCodeAt(0))
            const logprobs = tokenIds.map((_, i) => -Random.uniform(text, i))
            return { text, tokenIds, logprobs, promptIds: [1, 2, 3], finish: "stop" as const }
          },
          policyError
        ),
      choose: (id, context, options) =>
        call(
          `choose ${model} ${id}`,
          () => options.map((option) => -Random.uniform(weights.value, id, JSON.stringify(context), option)),
          policyError
        ),
      logprobs: () => Effect.succeed([]),
      learn: (rows, options) => training(weights, rows, options),
      update: (rollouts, options) =>
        Effect.gen(function* () {
          yield* watch.begins?.(`update ${options.iteration}`) ?? Effect.void
          weights.value = digest(weights.value, rollouts, options.learningRate, options.iteration)
          write(stateIn(options.stateDir), { weights: weights.value, done: options.iteration + 1 })
          const reward = rollouts.reduce((sum, rollout) => sum + rollout.reward, 0) / rollouts.length
          const zeros = { policy_loss: 0, value_loss: 0, approx_kl: 0, clipfrac: 0, advantage_std: 1, grad_norm: 1 }
          const { iteration, learningRate } = options
          return {
            ...zeros,
            ...{ iteration, reward, loss: Random.uniform(weights.value), kl: 0.1, learning_rate: learningRate },
            ...{ tokens: rollouts.length, seconds: Math.random() }
          }
        }),
      restore: (stateDir) =>
        Effect.sync(() => {
          const found = read<State>(stateIn(stateDir))
          weights.value = found?.weights ?? weights.value
          return found?.done ?? 0
        }),
      save: (dir) => Effect.sync(() => write(adapterIn(dir), weights.value))
    })
  }

  const rewardModel = (model: string, start: string): RewardModel["Service"] => {
    const weights = { value: start }
    return RewardModel.of({
      model,
      score: ({ id, completion }) =>
        call(
          `score ${id}`,
          () => 4 * Random.uniform(weights.value, completion) - 2,
          (message) => new RewardModelError({ message, retryable: false })
        ),
      learn: (pairs, options) => training(weights, pairs, options),
      save: (dir) => Effect.sync(() => write(adapterIn(dir), weights.value))
    })
  }

  const start = (from: Parameters<Models["Service"]["policy"]>[1]) =>
    from._tag === "fresh" ? digest(from.seed, from.rank, from.alpha) : (read<string>(adapterIn(from.dir)) ?? "nothing")
  return Models.of({
    base: policy("base", "base"),
    chat: false,
    description: { name: "world", family: "mock", parameters: 0, fingerprint: "world" },
    policy: (name, from) => Effect.sync(() => policy(name, start(from))),
    rewardModel: (name, from) => Effect.sync(() => rewardModel(name, start(from)))
  })
}

/** Runs the world in a folder. */
export const run = (dir: string, watch: Watch = {}) =>
  runIn(dir, mocks(), { service: models(watch), prompts, settings })

/** Runs the world until so many calls have begun or ended; true if it came to its end before. */
export const runUntil = Effect.fnUntraced(function* (
  dir: string,
  at: "begins" | "ends",
  calls: number,
  watch: Pick<Watch, "ends" | "fails"> = {}
) {
  const reached = yield* Deferred.make<false>()
  let count = 0
  const tick = Effect.sync(() => {
    // From outside, as a signal comes: as soon as nothing else runs.
    if (++count === calls) queueMicrotask(() => Deferred.doneUnsafe(reached, Effect.succeed(false)))
  })
  return yield* run(dir, {
    ...watch,
    // What begins then is under way when the end comes, and what has ended is not written yet.
    begins: () =>
      at === "begins"
        ? Effect.andThen(
            tick,
            Effect.suspend(() => (count >= calls ? Effect.never : Effect.void))
          )
        : Effect.void,
    ends: (call) => Effect.andThen(watch.ends?.(call) ?? Effect.void, at === "ends" ? tick : Effect.void)
  }).pipe(Effect.as(true), Effect.raceFirst(Deferred.await(reached)))
})

/** A file's text; what a run cost, which its summary says, depends on the clock and on how often it was stopped. */
const text = (dir: string, path: string): string => {
  const content = readFileSync(join(dir, path), "utf8")
  if (path !== "summary.json") return content
  const { seconds: _, tokens: __, ...rest } = JSON.parse(content) as Record<string, unknown>
  return JSON.stringify(rest)
}

/** The files of a folder by path, but for those that depend on the clock and on what was there before. */
export const files = (dir: string): ReadonlyMap<string, string> =>
  new Map(
    readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(dir, join(entry.parentPath, entry.name)))
      .filter((path) => path !== "timings.json" && !path.startsWith("earlier"))
      .toSorted()
      .map((path) => [path, text(dir, path)])
  )

/** The rows of a JSONL file. */
export const rows = <A = Record<string, any>>(dir: string, file: string): ReadonlyArray<A> =>
  readFileSync(join(dir, file), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as A)
