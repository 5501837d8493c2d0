/**
 * Reinforcement: the second phase of Constitutional AI, from SL-CAI to RL-CAI (Bai et al. 2022, section 4).
 *
 * Pairs of answers of the supervised policy get soft labels ({@link Preferences}); a reward model learns them; then
 * the policy is improved against the reward model by PPO, held near the supervised policy by a KL term.
 */
import { Effect, Stream } from "effect"
import { rmSync } from "node:fs"
import { Models } from "../Models.ts"
import { Policy, type UpdateOptions } from "../Policy.ts"
import * as Random from "../Random.ts"
import { RewardModel } from "../RewardModel.ts"
import type * as Sample from "../Sample.ts"
import * as Stage from "../Stage.ts"
import * as PolicyUpdate from "../stages/PolicyUpdate.ts"
import * as Reward from "../stages/Reward.ts"
import * as Rollout from "../stages/Rollout.ts"
import * as Transcript from "../Transcript.ts"
import * as Preferences from "./Preferences.ts"
import * as Progress from "./Progress.ts"
import * as PromptSets from "./PromptSets.ts"
import { recorded } from "./Recorded.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"
import { failed } from "./RunError.ts"
import * as Scores from "./Scores.ts"
import type { Settings } from "./Settings.ts"
import * as Training from "./Training.ts"

/** The reward model, begun from the supervised policy: trained, or as it was left in the run folder. */
export const reward = Effect.fn("Reinforcement.reward")(function* (
  settings: Settings,
  preferences: ReadonlyArray<Sample.Preference>
) {
  const models = yield* Models
  const run = yield* Run
  const transcript = yield* Transcript.Transcript
  const seed = Random.hash(settings.seed, "reward adapter")
  const adapter = run.path("reward", "adapter")
  const left = Training.left(adapter, models.rewardModel("reward", { _tag: "folder", dir: adapter, seed }))
  if (run.isDone("reward")) return yield* left

  const rows = preferences.map((preference) => Preferences.example(transcript, preference))
  const options = Training.options(settings, "reward", run.path("reward", "state"))
  return yield* Effect.gen(function* () {
    const model = yield* Training.run({
      file: "reward/metrics.jsonl",
      stateDir: options.stateDir,
      rows: rows.length,
      model: models.rewardModel("reward", { _tag: "folder", dir: run.path("supervised", "adapter"), seed }),
      learn: (model, onReject) => model.learn(rows, options, onReject)
    })
    yield* model.save(adapter)
    return model
  }).pipe(Progress.phase("reward", Training.stepsOf(rows.length, options)), (self) => run.phase("reward", self))
})

/** The mean and spread of the scores of the supervised policy's answers: rewards are measured against them. */
const scale = Effect.fnUntraced(function* (
  settings: Settings,
  preferences: ReadonlyArray<Sample.Preference>,
  rewardModel: RewardModel["Service"]
) {
  const { score, settle } = yield* Scores.make("policy/calibration.jsonl", rewardModel)
  // Harmful and benign prompts in the shares that they have among the pairs.
  const answers = Random.make(settings.seed, "calibration")
    .shuffle(preferences.map(({ comparison }) => comparison.first))
    .slice(0, settings.reinforcement.calibrationPrompts)
  const scores = yield* Effect.forEach(answers, score, { concurrency: settings.concurrency })
  yield* settle
  return Reward.scale(scores.filter((score) => score !== undefined))
})

const updateOptions = (settings: Settings, iteration: number, stateDir: string): UpdateOptions => {
  const { iterations, epochs, minibatchSize, microTokens, learningRate, valueLearningRate } = settings.reinforcement
  const { warmupIterations, floor, klCoefficient, clip, valueClip, valueCoefficient } = settings.reinforcement
  const { gamma, lambda, maxGradNorm, temperature } = settings.reinforcement
  return {
    seed: Random.hash(settings.seed, "update", iteration),
    ...{ iteration, iterations, epochs, minibatchSize, microTokens, learningRate, valueLearningRate },
    ...{ warmupIterations, floor, klCoefficient, clip, valueClip, valueCoefficient, gamma, lambda, maxGradNorm },
    temperature,
    stateDir
  }
}

/** The reinforced policy, RL-CAI: trained, or as it was left in the run folder. */
export const policy = Effect.fn("Reinforcement.policy")(function* (
  settings: Settings,
  preferences: ReadonlyArray<Sample.Preference>,
  prompts: ReadonlyArray<Sample.Prompt>,
  rewardModel: RewardModel["Service"]
) {
  const models = yield* Models
  const run = yield* Run
  const seed = Random.hash(settings.seed, "policy adapter")
  const adapter = run.path("policy", "adapter")
  const left = Training.left(adapter, models.policy("reinforced", { _tag: "folder", dir: adapter, seed }))
  if (run.isDone("policy")) return yield* left

  const { iterations, batchSize, rewardClip, missingStopPenalty, maxTokens, temperature } = settings.reinforcement
  const { concurrency } = settings
  const stateDir = run.path("policy", "state")
  const keysOf = (iteration: number) =>
    PromptSets.iteration(prompts, settings, iteration).map(({ prompt, index }) =>
      Records.rolloutKey(iteration, prompt, index)
    )
  return yield* Effect.gen(function* () {
    const progress = yield* Progress.Progress
    const rollouts = yield* Records.rollouts
    const metrics = yield* Records.metrics("policy/metrics.jsonl", "iteration")
    const { mean, std } = yield* scale(settings, preferences, rewardModel)
    const begin = models.policy("reinforced", { _tag: "folder", dir: run.path("supervised", "adapter"), seed })
    const isDone = (key: string) =>
      rollouts.get(key) === undefined ? rollouts.isRejected("rollout", key) : Effect.succeed(true)
    const { policy, finished } = yield* restored(
      begin,
      stateDir,
      Effect.fnUntraced(function* (iteration) {
        const done = yield* Effect.forEach(keysOf(iteration), isDone)
        return metrics.get(String(iteration)) !== undefined && done.every((is) => is)
      })
    )
    yield* Effect.replicateEffect(progress.advance({ reused: true }), finished * (batchSize + 1), { discard: true })

    for (let iteration = finished; iteration < iterations; iteration++) {
      const rollout = Stage.make("Rollout", ({ prompt, index }: PromptSets.Turn) =>
        Rollout.one(prompt, { seed: Random.hash(settings.seed, "rollout"), iteration, index, maxTokens, temperature })
      ).pipe(
        Stage.compose(Reward.stage({ mean, std, clamp: rewardClip, missingStopPenalty })),
        recorded("rollout", {
          log: rollouts,
          key: ({ prompt, index }: PromptSets.Turn) => Records.rolloutKey(iteration, prompt, index),
          concurrency
        })
      )
      const turns = PromptSets.iteration(prompts, settings, iteration)
      yield* Stream.fromIterable(turns).pipe(rollout, Stream.runDrain, Effect.provideService(Policy, policy))
      const rewards = turns.flatMap(
        ({ prompt, index }) => rollouts.get(Records.rolloutKey(iteration, prompt, index)) ?? []
      )
      if (rewards.length === 0) {
        return yield* failed(`No rollout of iteration ${iteration} succeeded; ${run.path("rejected.jsonl")} says why.`)
      }
      const update = yield* PolicyUpdate.one(rewards, updateOptions(settings, iteration, stateDir)).pipe(
        Effect.provideService(Policy, policy)
      )
      yield* metrics.append({ ...update })
      yield* progress.advance({
        note: `reward ${Progress.hundredths(update.reward)}, KL ${Progress.hundredths(update.kl)}`
      })
    }
    yield* rollouts.settle(Array.from({ length: iterations }, (_, iteration) => keysOf(iteration)).flat())
    yield* policy.save(adapter)
    return policy
  }).pipe(
    Effect.provideService(RewardModel, rewardModel),
    Progress.phase("reinforcement", iterations * (batchSize + 1)),
    (self) => run.phase("policy", self)
  )
})

/**
 * The policy with its finished updates. An update is not counted whose metrics were not written before the process was
 * killed, or of whose rollouts one is gone, and no state is kept of the one before it: then the updates begin again, over
 * the rollouts that are there.
 */
const restored = Effect.fnUntraced(function* <E, R, E2>(
  begin: Effect.Effect<Policy["Service"], E, R>,
  stateDir: string,
  isRecorded: (iteration: number) => Effect.Effect<boolean, E2>
) {
  const policy = yield* begin
  const finished = yield* policy.restore(stateDir)
  const known = yield* Effect.forEach(
    Array.from({ length: finished }, (_, i) => i),
    isRecorded
  )
  if (known.every((is) => is)) return { policy, finished }
  rmSync(stateDir, { recursive: true, force: true })
  return { policy: yield* begin, finished: 0 }
})

/** The whole phase: the reinforced policy out of prompts and the supervised policy. */
export const run = Effect.fn("Reinforcement.run")(function* (
  settings: Settings,
  prompts: ReadonlyArray<Sample.Prompt>,
  supervised: Policy["Service"]
) {
  const { training, heldOut } = yield* Preferences.collect(settings, prompts, supervised)
  const rewardModel = yield* reward(settings, training)
  const reinforced = yield* policy(settings, training, prompts, rewardModel)
  return { reinforced, rewardModel, heldOut }
})
