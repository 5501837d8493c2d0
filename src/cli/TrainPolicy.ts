/**
 * TrainPolicy: reinforcement learning from prompts and a reward model, from its first update or from where it was left.
 *
 * Each update samples answers from the policy, has the reward model score them, measures their distance from the
 * reference, and learns from all of it. `rollouts.jsonl` has every answer with its reward. An update that was killed is
 * done again with the answers that are there.
 */
import { Console, Effect, Option } from "effect"
import * as Adapters from "../engine/Adapters.ts"
import * as Base from "../engine/Base.ts"
import * as Decoder from "../engine/Decoder.ts"
import * as Forward from "../engine/Forward.ts"
import * as Kl from "../engine/Kl.ts"
import * as Learner from "../engine/Learner.ts"
import * as Objective from "../engine/Objective.ts"
import * as Minibatches from "../engine/Minibatches.ts"
import * as Optimizer from "../engine/Optimizer.ts"
import * as PolicyGradient from "../engine/PolicyGradient.ts"
import * as Saving from "../engine/Saving.ts"
import * as Scorer from "../engine/Scorer.ts"
import * as TrainingState from "../engine/TrainingState.ts"
import * as Finite from "../model/Finite.ts"
import * as Fingerprint from "../model/Fingerprint.ts"
import type { ScoredRollout } from "../Policy.ts"
import { Progress } from "../recipes/Progress.ts"
import { failed } from "../recipes/RunError.ts"
import { count } from "./Count.ts"
import * as Model from "./Model.ts"
import * as RolloutLog from "./RolloutLog.ts"
import * as TrainAnswers from "./TrainAnswers.ts"
import * as TrainFolder from "./TrainFolder.ts"
import * as TrainModel from "./TrainModel.ts"
import * as TrainPolicySettings from "./TrainPolicySettings.ts"
import * as TrainRows from "./TrainRows.ts"
import { ended, restored, tellRejects } from "./TrainRun.ts"
import * as TrainSettings from "./TrainSettings.ts"
import { fromInput } from "./UsageError.ts"

const deviationOf = (numbers: ReadonlyArray<number>): number => {
  const mean = PolicyGradient.meanOf(numbers)
  return Math.sqrt(numbers.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, numbers.length - 1))
}

/** Updates until the scope closes or all are done; says what they came to. */
export const execute = Effect.fn("charter train policy")(function* (input: TrainPolicySettings.Input) {
  const progress = yield* Progress
  const checkpoint = yield* Model.open(input.model)
  yield* Effect.mapError(Finite.check(checkpoint), fromInput)
  const common = yield* TrainSettings.common(input.kind, input, checkpoint.config.maxPositions, 32)
  const settings = yield* TrainPolicySettings.settings(input, common)
  const encoder = yield* Effect.mapError(TrainRows.encoder(checkpoint, common.maxLength), fromInput)
  // An answer that is cut off gets an end token for its score.
  const room = settings.maxTokens + (checkpoint.eosTokenIds.length > 0 ? 1 : 0)
  const prompts = yield* TrainRows.read(input.prompts, TrainRows.prompt(encoder, room))
  const adapter = Option.getOrUndefined(input.adapter)
  const judge = yield* TrainModel.judge(input.rewardModel, checkpoint)
  const trainee = yield* TrainModel.begin({
    checkpoint,
    adapter,
    asked: TrainSettings.asked(input),
    lora: common.lora,
    seed: common.seed,
    head: input.kind === "ppo" ? "value" : "none"
  })
  const base = yield* Effect.mapError(Base.make(checkpoint, input), fromInput)
  const reference = adapter === undefined ? undefined : { ...trainee, vector: trainee.vector.slice() }
  const perUpdate = common.batchSize / settings.samples
  const steps = Option.getOrElse(input.steps, () => Math.ceil(prompts.rows.length / perUpdate))

  const folder = yield* TrainFolder.open(
    input.out,
    {
      train: input.kind,
      model: yield* Effect.mapError(Fingerprint.of(checkpoint), fromInput),
      adapter: adapter === undefined ? null : TrainFolder.digest(trainee.vector),
      rewardModel:
        judge.checkpoint === checkpoint
          ? TrainFolder.digest(judge.adapter.vector)
          : yield* Effect.mapError(Fingerprint.of(judge.checkpoint), fromInput),
      prompts: prompts.hash,
      encoded: TrainRows.isDated(encoder) ? null : { prompts: prompts.encoded },
      ends: checkpoint.eosTokenIds,
      scales: {
        adapter: adapter === undefined ? null : TrainModel.scales(trainee),
        rewardModel: TrainModel.scales(judge.adapter)
      },
      steps,
      ...common,
      lora: common.lora === null ? null : TrainModel.described(trainee),
      ...settings
    },
    prompts.rejects
  )
  if (folder.finished) {
    yield* Console.log(`${input.out} is finished (${steps} updates); nothing was changed.`)
    return
  }
  yield* tellRejects(prompts.rejects, input.out)

  const decoder = yield* Decoder.make(base, { memory: 2 ** 29, maxRows: 64 })
  const scorer = yield* Scorer.make(base, { maxTokens: common.microTokens })
  const forward = Forward.over(scorer, settings.temperature)
  const judging =
    judge.checkpoint === checkpoint
      ? forward
      : Forward.over(
          yield* Scorer.make(yield* Effect.mapError(Base.make(judge.checkpoint, input), fromInput), {
            maxTokens: common.microTokens
          })
        )
  const { clip } = settings
  const free = input.kind === "grpo" && settings.klCoefficient === 0
  const objective =
    input.kind === "ppo"
      ? Objective.ppo({ clip, valueClip: input.valueClip, valueCoefficient: input.valueCoefficient })
      : input.kind === "grpo"
        ? Objective.grpo({ clip, beta: settings.klCoefficient })
        : Objective.rloo({ clip })
  const learner = yield* Learner.make(base, trainee, objective, {
    recompute: common.recompute,
    microTokens: Math.max(common.microTokens, settings.maxTokens),
    temperature: settings.temperature
  })

  const found = yield* restored(folder, trainee.layout.size)
  const state = found?.state ?? Learner.initialState(trainee.vector)
  trainee.vector = state.parameters
  let beta = found?.more["klCoefficient"] ?? settings.klCoefficient
  // Minibatches without a finite loss and gradient, in a row, up to here.
  let skipped = found?.more["skipped"] ?? 0
  let done = found?.progress ?? 0
  const lines = [...(yield* folder.resume(done))]
  const rollouts = yield* RolloutLog.open(folder.path("rollouts.jsonl"), done)
  const control: Kl.Control =
    settings.klTarget === null ? { _tag: "fixed" } : { _tag: "adaptive", target: settings.klTarget, horizon: 10_000 }
  const saving = Saving.make()
  const answers = TrainAnswers.from(
    { checkpoint, codec: encoder.codec, decoder, policy: trainee, judge: judge.adapter, judging },
    prompts.rows,
    rollouts,
    { ...settings, batchSize: common.batchSize, seed: common.seed }
  )
  /** What a resumed training continues from, where so many updates are done. */
  const keepState = (state: Learner.State, done: number) =>
    TrainingState.save(folder.path("state"), state, done, { klCoefficient: beta, skipped })

  const update = Effect.fnUntraced(function* (index: number) {
    const started = performance.now()
    const scored = yield* answers(index)
    const unlearnable = PolicyGradient.unlearnable(scored)
    if (unlearnable !== undefined) {
      yield* keepState(state, index)
      return yield* failed(
        `Nothing can be learnt in step ${index + 1}: ${unlearnable}; lower --learning-rate or look at --reward-model, with another --out.`
      )
    }
    const models = { adapter: trainee, reference, forward, learner, state }
    const sequences = yield* PolicyGradient.atTemperature(
      models,
      PolicyGradient.answersOf(scored satisfies ReadonlyArray<ScoredRollout>),
      settings.temperature
    )
    // Without a KL term one answer to each prompt says how far the policy has moved.
    const watched = free ? sequences.filter((_, i) => i % settings.samples === 0) : sequences
    const measured = yield* PolicyGradient.against(models, watched)
    const diagnosis = yield* PolicyGradient.diagnose(models, measured)
    if (diagnosis !== undefined) yield* Console.error(`Step ${index + 1}: ${diagnosis}`)
    const warmup = TrainSettings.warmupSteps(common.warmup, steps)
    const schedule = { kind: common.schedule, steps, warmup, floor: common.floor }
    const factor = Optimizer.stepMultiplier(schedule, index)
    const rate = factor * common.learningRate
    const valueRate = factor * Option.getOrElse(input.valueLearningRate, () => 10 * common.learningRate)
    const rates: Learner.Rates = {
      learningRates: trainee.layout.groups.map(({ name }) => (name === Adapters.groups.value ? valueRate : rate)),
      weightDecays: trainee.layout.groups.map(() => common.weightDecay),
      maxGradNorm: common.maxGradNorm
    }
    const how: Minibatches.Options = {
      seed: common.seed,
      iteration: index,
      epochs: settings.updateEpochs,
      minibatchSize: settings.minibatchSize,
      microTokens: common.microTokens,
      microRows: common.microBatch ?? undefined,
      skipped
    }
    const { gamma, lambda } = input
    const [rows, weigh] =
      input.kind === "ppo"
        ? [
            (yield* PolicyGradient.ppoRows(models, measured, { gamma, lambda, klCoefficient: beta })).rows,
            PolicyGradient.byToken
          ]
        : input.kind === "grpo"
          ? [
              PolicyGradient.grpoRows(free ? sequences : measured, settings.samples, true),
              PolicyGradient.aggregate(input.aggregation)
            ]
          : [PolicyGradient.rlooRows(measured, settings.samples, beta), PolicyGradient.bySequence]
    const before = Learner.copyOf(state)
    const learnt = yield* Minibatches.learn(models, rows, weigh, rates, how)
    for (const ids of learnt.skipped) {
      yield* Console.error(`A minibatch of step ${index + 1} has no finite loss and gradient: ${ids.join(", ")}.`)
    }
    if (learnt.stopped) {
      yield* keepState(before, index)
      return yield* failed(
        `Three minibatches in a row have no finite loss and gradient (step ${index + 1}); look at their samples, or lower the learning rate. The state before this step is kept.`
      )
    }
    skipped = learnt.inARow
    const kl = PolicyGradient.meanOf(measured.map((m) => m.kl))
    const tokens = scored.reduce((n, { tokenIds }) => n + tokenIds.length, 0)
    const seconds = (performance.now() - started) / 1000
    const used = beta
    beta = Kl.next(control, beta, kl, scored.length)
    return {
      step: index + 1,
      ...learnt.means,
      reward: PolicyGradient.meanOf(scored.map((r) => r.reward)),
      reward_std: deviationOf(scored.map((r) => r.reward)),
      score: PolicyGradient.meanOf(scored.map((r) => r.score)),
      kl,
      kl_k3: PolicyGradient.meanOf(measured.map((m) => m.kl3)),
      kl_coefficient: used,
      entropy: -PolicyGradient.meanOf(sequences.flatMap((r) => r.logprobs)),
      completion_length: tokens / scored.length,
      truncated: scored.filter((r) => r.finish === "length").length / scored.length,
      skipped: learnt.skipped.length,
      learning_rate: rate,
      tokens,
      tokens_per_second: tokens / Math.max(1e-9, seconds),
      seconds
    }
  })

  const save = (dir: string) => Effect.mapError(TrainModel.save(dir, checkpoint, trainee), ended)
  const saveState = Effect.suspend(() => {
    const end = saving.begin()
    return Effect.andThen(keepState(state, done), Effect.sync(end))
  })
  yield* progress.begin(input.kind, steps)
  yield* Effect.replicateEffect(progress.advance({ reused: true }), done, { discard: true })
  yield* Effect.gen(function* () {
    while (done < steps) {
      const line = yield* update(done)
      yield* folder.append(line)
      lines.push(line)
      done++
      // None is kept as the best: the reward of one update is a mean over few answers of the policy before it, and where
      // it is highest the policy may only have found what the reward model overrates.
      if (common.saveEvery > 0 && done % common.saveEvery === 0) yield* folder.keep(done, common.keep, undefined, save)
      if (done === steps || saving.due()) yield* saveState
      yield* progress.advance({ note: `reward ${line.reward.toFixed(3)}, KL ${line.kl.toFixed(3)}` })
    }
  }).pipe(Effect.mapError(ended), Effect.ensuring(progress.end))

  yield* save(input.out)
  const last = lines.at(-1)
  yield* folder.finish({
    train: input.kind,
    steps,
    prompts: prompts.rows.length,
    rejected: prompts.rejects.length,
    parameters: trainee.layout.size,
    tokens: lines.reduce((sum, line) => sum + Number(line["tokens"]), 0),
    seconds: lines.reduce((sum, line) => sum + Number(line["seconds"]), 0),
    first: lines[0] ?? null,
    last: last ?? null
  })
  yield* Console.log(
    `Trained ${input.kind} for ${count(steps, "update")}; mean reward ${Number(lines[0]?.["reward"]).toFixed(3)} at first and ${Number(last?.["reward"]).toFixed(3)} at last. ${input.out} has ${common.lora === null ? "the model" : "the adapter"}.`
  )
}, Effect.scoped)
