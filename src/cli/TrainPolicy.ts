/**
 * TrainPolicy: reinforcement learning from prompts and a reward model, from its first update or from where it was left.
 *
 * Each update samples answers from the policy, has the reward model score them, measures their distance from the
 * reference, and learns from all of it. `rollouts.jsonl` has every answer with its reward. An update that was killed is
 * done again with the answers that are there.
 */
import { Console, Effect, Option } from "effect"
import * as Base from "../engine/Base.ts"
import * as Decoder from "../engine/Decoder.ts"
import * as Forward from "../engine/Forward.ts"
import * as Learner from "../engine/Learner.ts"
import * as Saving from "../engine/Saving.ts"
import * as Scorer from "../engine/Scorer.ts"
import * as TrainingState from "../engine/TrainingState.ts"
import * as Finite from "../model/Finite.ts"
import * as Fingerprint from "../model/Fingerprint.ts"
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
import * as TrainUpdate from "./TrainUpdate.ts"
import { fromInput } from "./UsageError.ts"

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

  const memory = TrainAnswers.cacheMemory(checkpoint, prompts.rows, settings.maxTokens)
  const decoder = yield* Decoder.make(base, { memory, maxRows: 64 })
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
  const plan = { input, common, settings, steps }
  const learner = yield* Learner.make(base, trainee, TrainUpdate.objective(plan), {
    recompute: common.recompute,
    microTokens: Math.max(common.microTokens, settings.maxTokens),
    temperature: settings.temperature
  })

  const found = yield* restored(folder, trainee.layout.size)
  const state = found?.state ?? Learner.initialState(trainee.vector)
  trainee.vector = state.parameters
  let carried: TrainUpdate.Carried = {
    klCoefficient: found?.more["klCoefficient"] ?? settings.klCoefficient,
    skipped: found?.more["skipped"] ?? 0
  }
  let done = found?.progress ?? 0
  const lines = [...(yield* folder.resume(done))]
  const rollouts = yield* RolloutLog.open(folder.path("rollouts.jsonl"), done)
  const saving = Saving.make()
  const answers = TrainAnswers.from(
    { checkpoint, codec: encoder.codec, decoder, policy: trainee, judge: judge.adapter, judging },
    prompts.rows,
    rollouts,
    { ...settings, batchSize: common.batchSize, seed: common.seed }
  )
  const models = { adapter: trainee, reference, forward, learner, state }
  const update = TrainUpdate.make(models, answers, plan)
  /** What a resumed training continues from, where so many updates are done. */
  const keepState = (state: Learner.State) => TrainingState.save(folder.path("state"), state, done, { ...carried })

  const save = (dir: string) => Effect.mapError(TrainModel.save(dir, checkpoint, trainee), ended)
  const saveState = Effect.suspend(() => {
    const end = saving.begin()
    return Effect.andThen(keepState(state), Effect.sync(end))
  })
  yield* progress.begin(input.kind, steps)
  yield* Effect.replicateEffect(progress.advance({ reused: true }), done, { discard: true })
  yield* Effect.gen(function* () {
    while (done < steps) {
      const before = Learner.copyOf(state)
      const updated = yield* update(done, carried).pipe(
        Effect.catchTag("TrainingError", ({ message }) =>
          Effect.andThen(
            keepState(before),
            Effect.fail(
              failed(
                `Step ${done + 1}: ${message}; lower --learning-rate, or look at the samples and at --reward-model, with another --out. The state before this step is kept.`
              )
            )
          )
        )
      )
      const { line } = updated
      yield* folder.append(line)
      lines.push(line)
      carried = updated.carried
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
  const mean = (line: TrainFolder.Line) => Number(line["reward"]).toFixed(3)
  const rewards =
    last === undefined
      ? "the lines of its updates are gone"
      : `mean reward ${mean(lines[0]!)} at first and ${mean(last)} at last`
  yield* Console.log(
    `Trained ${input.kind} for ${count(steps, "update")}; ${rewards}. ${input.out} has ${common.lora === null ? "the model" : "the adapter"}.`
  )
}, Effect.scoped)
