/**
 * TrainRun: a training from a file of examples, from its first step or from where it was left.
 *
 * It runs on the main thread: there is nothing else to do, and between two steps an interruption is heard.
 */
import { Console, Effect, Option, Stream } from "effect"
import * as Base from "../engine/Base.ts"
import * as Forward from "../engine/Forward.ts"
import * as Learner from "../engine/Learner.ts"
import * as Objective from "../engine/Objective.ts"
import * as Scorer from "../engine/Scorer.ts"
import * as Training from "../engine/Training.ts"
import * as TrainingData from "../engine/TrainingData.ts"
import * as TrainingState from "../engine/TrainingState.ts"
import * as Finite from "../model/Finite.ts"
import * as Fingerprint from "../model/Fingerprint.ts"
import type { StepMetrics } from "../Policy.ts"
import { Progress } from "../recipes/Progress.ts"
import { RunError, failed } from "../recipes/RunError.ts"
import { count } from "./Count.ts"
import * as Model from "./Model.ts"
import * as TrainFolder from "./TrainFolder.ts"
import * as TrainModel from "./TrainModel.ts"
import * as TrainRows from "./TrainRows.ts"
import * as TrainSettings from "./TrainSettings.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** The arguments as they were given. */
export interface Input extends TrainSettings.CommonInput {
  readonly kind: TrainSettings.Kind
  readonly data: string
  readonly eval: Option.Option<string>
  readonly epochs: Option.Option<number>
  readonly packing: boolean
  readonly beta: number
  readonly loss: "sigmoid" | "ipo"
  readonly labelSmoothing: number
}

const objectiveOf = ({ beta, kind, labelSmoothing, loss }: Input): Objective.Objective =>
  kind === "sft"
    ? Objective.sft
    : kind === "reward"
      ? Objective.bradleyTerry
      : Objective.dpo({ beta, loss, labelSmoothing })

/** A training that broke off: what was finished is kept. */
export const ended = (error: { readonly message: string }): RunError =>
  error instanceof RunError ? error : failed(error.message)

/** The state of a folder, if there is one. */
export const restored = (folder: TrainFolder.TrainFolder, size: number) =>
  Effect.mapError(TrainingState.load(folder.path("state"), size), ({ message }) => new UsageError({ message }))

/** Metrics of an evaluation under the names of the field. */
const evaluated = (measured: Learner.Measured): Record<string, number> =>
  Object.fromEntries(Object.entries(measured).map(([name, x]) => [`eval_${name}`, x]))

/** Tells of rejected rows: where they are and why the first one is. */
export const tellRejects = (rejects: ReadonlyArray<{ readonly line: number; readonly reason: string }>, dir: string) =>
  rejects.length === 0
    ? Effect.void
    : Console.error(
        `${rejects.length} ${rejects.length === 1 ? "row was" : "rows were"} rejected (line ${rejects[0]!.line}: ${rejects[0]!.reason}); ${dir}/rejected.jsonl has them all.`
      )

/** The line of a step: metrics under the field's names. */
const lineOf = (metrics: StepMetrics): TrainFolder.Line => {
  const { loss, seconds, step, tokens } = metrics
  const own = ["step", "steps", "loss", "tokens", "seconds"]
  const others = Object.entries(metrics).filter(([name]) => !own.includes(name))
  const tokens_per_second = tokens / Math.max(1e-9, seconds)
  return { step, loss, ...Object.fromEntries(others), tokens, tokens_per_second, seconds }
}

/** The step of the best evaluation so far; one without a finite loss is none, and is read back from its line as null. */
export const bestOf = (lines: ReadonlyArray<TrainFolder.Line>): TrainFolder.Line | undefined =>
  lines.reduce<TrainFolder.Line | undefined>((best, line) => {
    const loss = line["eval_loss"]
    if (typeof loss !== "number" || !Number.isFinite(loss)) return best
    return best === undefined || loss < Number(best["eval_loss"]) ? line : best
  }, undefined)

/** Rows by their numbers, so that nobody has to know what they are made of. */
const numbered = <Row>({ collate, id, rows, tokens }: Training.Data<Row>): Training.Data<number> => {
  const row = (i: number) => rows[i]!
  return {
    rows: rows.map((_, i) => i),
    collate: (batch) => collate(batch.map(row)),
    tokens: (i) => tokens(row(i)),
    id: (i) => id(row(i))
  }
}

/** A file's rows as what the objective learns from. */
const dataOf = Effect.fnUntraced(function* (
  kind: TrainSettings.Kind,
  file: string,
  encoder: TrainRows.Encoder,
  how: TrainingData.Cut & { readonly packing: boolean },
  direct: (pairs: ReadonlyArray<TrainingData.NamedPair>) => Training.Data<TrainingData.NamedPair>
) {
  if (kind === "sft") {
    const read = yield* TrainRows.read(file, TrainRows.example(encoder))
    const data = how.packing ? TrainingData.packed(read.rows, how) : TrainingData.supervised(read.rows, how)
    return { ...read, data: numbered(data) }
  }
  const read = yield* TrainRows.read(file, TrainRows.pair(encoder, kind))
  return {
    ...read,
    data: kind === "reward" ? numbered(TrainingData.preferences(read.rows, how)) : numbered(direct(read.rows))
  }
})

/** Carries out a training; says what it came to. */
export const execute = Effect.fn("charter train")(function* (input: Input) {
  const progress = yield* Progress
  if (Option.isSome(input.epochs) && Option.isSome(input.steps)) {
    return yield* new UsageError({ message: "--epochs and --steps were both given; leave one out." })
  }
  if (Option.isSome(input.epochs) && !(input.epochs.value >= 1)) {
    return yield* new UsageError({ message: `--epochs has to be 1 or more, and is ${input.epochs.value}.` })
  }
  if (!(input.labelSmoothing >= 0 && input.labelSmoothing < 0.5)) {
    return yield* new UsageError({
      message: `--label-smoothing has to be from 0 to below 0.5, and is ${input.labelSmoothing}.`
    })
  }
  if (input.kind === "dpo") yield* TrainSettings.positive("--beta", input.beta)
  const checkpoint = yield* input.kind === "reward" ? Model.openJudge(input.model, input.full) : Model.open(input.model)
  yield* Effect.mapError(Finite.check(checkpoint), fromInput)
  const settings = yield* TrainSettings.common(input.kind, input, checkpoint.config.maxPositions, 8)
  const encoder = yield* Effect.mapError(TrainRows.encoder(checkpoint, settings.maxLength), fromInput)
  const adapter = Option.getOrUndefined(input.adapter)
  const start: TrainModel.Start = {
    checkpoint,
    adapter,
    asked: TrainSettings.asked(input),
    lora: settings.lora,
    seed: settings.seed,
    head: input.kind === "reward" ? "score" : "none"
  }
  const trainee = yield* TrainModel.begin(start)
  const base = yield* Effect.mapError(Base.make(checkpoint, input), fromInput)
  const scorer = yield* Scorer.make(base, { maxTokens: settings.microTokens })
  const forward = Forward.over(scorer)
  // The reference is what the training began with: the adapter that was given, or the model itself.
  const reference = adapter === undefined ? undefined : { ...trainee, vector: trainee.vector.slice() }
  const how = {
    packing: input.packing,
    recompute: settings.recompute,
    microTokens: settings.microTokens,
    ...(settings.microBatch === null ? {} : { microRows: settings.microBatch })
  }
  const read = (file: string) =>
    dataOf(input.kind, file, encoder, how, (pairs) => TrainingData.directPreferences(pairs, how, forward, reference))
  const train = yield* read(input.data)
  const evaluation = Option.isNone(input.eval) ? undefined : yield* read(input.eval.value)
  const steps = Training.stepsOf(train.rows.length, {
    batchSize: settings.batchSize,
    epochs: Option.getOrElse(input.epochs, () => 1),
    ...(Option.isSome(input.steps) ? { steps: input.steps.value } : {})
  })

  const folder = yield* TrainFolder.open(
    input.out,
    {
      train: input.kind,
      model: yield* Effect.mapError(Fingerprint.of(checkpoint), fromInput),
      adapter: adapter === undefined ? null : TrainFolder.digest(trainee.vector),
      data: train.hash,
      eval: evaluation?.hash ?? null,
      encoded: TrainRows.isDated(encoder) ? null : { data: train.encoded, eval: evaluation?.encoded ?? null },
      scales: adapter === undefined ? null : TrainModel.scales(trainee),
      steps,
      ...settings,
      lora: settings.lora === null ? null : TrainModel.described(trainee),
      ...(input.kind === "dpo"
        ? { beta: input.beta, loss: input.loss, labelSmoothing: input.labelSmoothing }
        : { packing: input.packing })
    },
    [...train.rejects, ...(evaluation?.rejects ?? [])]
  )
  if (folder.finished) {
    yield* Console.log(`${input.out} is finished (${steps} steps); nothing was changed.`)
    return
  }
  yield* tellRejects([...train.rejects, ...(evaluation?.rejects ?? [])], input.out)

  const objective = objectiveOf(input)
  const microTokens = [train, evaluation].reduce(
    (most, file) => (file === undefined ? most : Training.mostTokens(file.data, most)),
    how.microTokens
  )
  const learner = yield* Learner.make(base, trainee, objective, { ...how, microTokens })
  const stateDir = folder.path("state")
  const found = yield* restored(folder, trainee.layout.size)
  const lines = [...(yield* folder.resume(found?.progress ?? 0))]
  const measure = Effect.fnUntraced(function* () {
    if (evaluation === undefined) return {}
    const { data } = evaluation
    return evaluated(yield* learner.measure(trainee.vector, yield* data.collate(data.rows)))
  })
  const save = (dir: string) => Effect.mapError(TrainModel.save(dir, checkpoint, trainee), ended)
  const isKept = (step: number) => settings.saveEvery > 0 && step % settings.saveEvery === 0
  /** Writes a step down, with its evaluation and its checkpoint where it is time for them. */
  const record = Effect.fnUntraced(function* (line: TrainFolder.Line) {
    const { step } = line
    const whole = { ...line, ...(isKept(step) || step === steps ? yield* measure() : {}) }
    yield* folder.append(whole)
    lines.push(whole)
    if (isKept(step)) yield* folder.keep(step, settings.keep, bestOf(lines)?.step, save)
    // A step that was skipped is done, too.
    yield* progress.advance(typeof line["loss"] === "number" ? { note: `loss ${line["loss"].toFixed(3)}` } : {})
  })

  yield* progress.begin(input.kind, steps)
  yield* Effect.replicateEffect(progress.advance({ reused: true }), found?.progress ?? 0, { discard: true })
  yield* Training.runWith(learner, trainee, train.data, {
    seed: settings.seed,
    epochs: 1,
    steps,
    batchSize: settings.batchSize,
    microTokens: settings.microTokens,
    learningRate: settings.learningRate,
    schedule: settings.schedule,
    warmupSteps: TrainSettings.warmupSteps(settings.warmup, steps),
    floor: settings.floor,
    weightDecay: settings.weightDecay,
    maxGradNorm: settings.maxGradNorm,
    stateDir,
    onSkip: ({ grad_norm, ids, loss, step }) =>
      Effect.andThen(
        Console.error(
          `Step ${step} was skipped: its loss is ${loss}, its gradient norm ${grad_norm}; of ${ids.join(", ")}.`
        ),
        Effect.mapError(
          record({ step, skipped: true, loss: null, grad_norm: null, samples: ids }),
          ({ message }) => new Training.TrainingError({ message })
        )
      )
  }).pipe(
    Stream.runForEach((metrics) => record(lineOf(metrics))),
    Effect.mapError(ended),
    Effect.ensuring(progress.end)
  )

  yield* save(input.out)
  const last = lines.at(-1)
  const learnt = lines.findLast((line) => typeof line["loss"] === "number")
  const none = last === undefined ? "the lines of its steps are gone" : "no step had a finite loss"
  const loss = learnt === undefined ? none : `loss ${Number(learnt["loss"]).toFixed(4)}`
  const best = bestOf(lines)
  const total = (name: string) => lines.reduce((sum, line) => sum + Number(line[name] ?? 0), 0)
  yield* folder.finish({
    train: input.kind,
    steps,
    rows: train.rows.length,
    rejected: train.rejects.length,
    ...(evaluation === undefined
      ? {}
      : { eval_rows: evaluation.rows.length, eval_rejected: evaluation.rejects.length }),
    skipped: lines.filter((line) => line["skipped"] === true).length,
    parameters: trainee.layout.size,
    tokens: total("tokens"),
    seconds: total("seconds"),
    tokens_per_second: total("tokens") / Math.max(1e-9, total("seconds")),
    first: lines[0] ?? null,
    last: last ?? null,
    best: best === undefined ? null : { step: best.step, eval_loss: best["eval_loss"] }
  })
  yield* Console.log(
    `Trained ${input.kind} for ${count(steps, "step")} on ${count(train.rows.length, "row")}; ${loss}. ${input.out} has ${settings.lora === null ? "the model" : "the adapter"}.`
  )
}, Effect.scoped)
