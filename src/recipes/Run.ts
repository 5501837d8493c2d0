/**
 * Run: the folder of a run, which can be killed at any moment and started again.
 *
 * ```
 * manifest.json     what determines the run, phase by phase
 * phases.json       which phases are finished
 * timings.json      everything that depends on the clock
 * rejected.jsonl    samples that failed, with the reason
 * <phase>/*.jsonl   the records of each stage, by key
 * calls/*.jsonl     the finished calls of a phase, while it is under way
 * earlier/<n>/      what was made under other settings
 * run.lock          the process that writes here, while it does
 * summary.json      the result
 * ```
 */
import { Context, Effect, Option, Predicate, Schema, Scope } from "effect"
import { readdirSync, rmdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import * as Atomic from "./Atomic.ts"
import { Call, Calls } from "./Calls.ts"
import * as Costs from "./Costs.ts"
import * as Earlier from "./Earlier.ts"
import * as Finished from "./Finished.ts"
import * as Lock from "./Lock.ts"
import * as Log from "./Log.ts"
import * as Manifest from "./Manifest.ts"
import { hash } from "./Phases.ts"
import * as Retried from "./Retried.ts"
import { failed, refuse, type RunError } from "./RunError.ts"
import * as Undeclared from "./Undeclared.ts"

/** A sample that failed, or a row of input that could not be used. */
export const Rejected = Schema.Struct({
  stage: Schema.String,
  /** The log in which the sample's record would have been. */
  log: Schema.optionalKey(Schema.String),
  id: Schema.String,
  reason: Schema.Json
})
export type Rejected = typeof Rejected.Type

/** The records of one kind, with the samples of which there will be none. */
export interface Records<A> extends Log.Log<A> {
  /** Notes a sample that failed; it is not tried again in this run. */
  readonly reject: (stage: string, id: string, reason: string) => Effect.Effect<void, RunError>
  readonly isRejected: (stage: string, id: string) => Effect.Effect<boolean, RunError>
}

/** The folder of a run. */
export class Run extends Context.Service<
  Run,
  {
    readonly dir: string
    readonly manifest: Manifest.Manifest
    /** What was done because the folder held a run with other settings, in a sentence. */
    readonly notice: string | undefined
    /** A path inside of the folder. */
    readonly path: (...parts: ReadonlyArray<string>) => string
    /**
     * The log of one kind of record. Each is opened once. A record that is not in it is looked for in the log `like`
     * of this run, which has records of the same places.
     */
    readonly log: <A, I>(
      file: string,
      schema: Schema.Codec<A, I>,
      key: (record: A) => string,
      like?: string
    ) => Effect.Effect<Records<A>, RunError>
    readonly rejected: () => ReadonlyArray<Rejected>
    /**
     * Runs a phase: its finished calls are kept until its end, which is marked; its time and tokens are added to what
     * earlier starts needed.
     */
    readonly phase: <A, E, R>(name: string, self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RunError, R>
    readonly isDone: (phase: string) => boolean
    readonly timings: () => Costs.Timings
    /** Writes a JSON file of the folder, whole or not at all. */
    readonly write: (file: string, value: unknown) => Effect.Effect<void, RunError>
  }
>()("charter/Run") {}

const decodeManifest = Schema.decodeUnknownOption(Manifest.Manifest)
const decodeRejected = Schema.decodeUnknownSync(Rejected)

/** The manifest of the run that a folder holds; fails with a sentence when it cannot hold one, and writes nothing. */
export const check = Effect.fnUntraced(function* (dir: string) {
  const entries = yield* Effect.try({
    try: () => (statSync(dir, { throwIfNoEntry: false }) === undefined ? [] : readdirSync(dir)),
    catch: () => refuse(`${dir} is not a folder that can be read; use another --out.`)
  })
  const stored = yield* Atomic.readJson(join(dir, "manifest.json")).pipe(
    Effect.mapError(() => refuse(`${join(dir, "manifest.json")} is damaged; use another --out, or delete the folder.`))
  )
  if (stored === undefined) {
    const foreign = entries.find((entry) => !entry.startsWith(Lock.fileName) && !entry.endsWith(".tmp"))
    return foreign === undefined
      ? undefined
      : yield* refuse(`${dir} has files in it (${foreign}) but is not the folder of a run; use another --out.`)
  }
  const before = Option.getOrUndefined(decodeManifest(stored))
  if (before === undefined) {
    return yield* refuse(`${dir} was made by another version of Charter; use another --out, or delete the folder.`)
  }
  return before
})

/** A list that can be done without: where it is gone, records are gone through again, and times begin at nothing. */
const list = (file: string) =>
  Atomic.readJson(file).pipe(
    Effect.filterOrFail(
      (value) => value === undefined || Predicate.isObject(value),
      () => failed(`${file} cannot be read: it holds no object.`)
    ),
    Effect.mapError(({ message }) => failed(`${message} Delete it to go on.`))
  )

const changing = <A>(dir: string, f: () => A) =>
  Effect.try({ try: f, catch: (cause) => failed(`${dir} cannot be changed: ${Atomic.reasonOf(cause)}.`) })

/** Makes the folder one of this run: what does not hold in it is moved aside. */
const adopt = Effect.fnUntraced(function* (dir: string, before: Manifest.Manifest, now: Manifest.Manifest) {
  const change = <A>(f: () => A) => changing(dir, f)
  yield* change(() => {
    Earlier.recover(dir, before)
    Atomic.cleanUnsafe(dir, [Earlier.folder])
  })
  const stored = yield* list(join(dir, "phases.json"))
  // What a move rewrites is looked at before anything is moved.
  yield* list(join(dir, "timings.json"))
  const rejected = yield* change(() => Retried.keysUnsafe(dir))
  const retried = Retried.phase(before, Finished.decode(stored), rejected)
  const there = retried === undefined ? before : Retried.before(before, retried)
  const same = Object.entries(now.phases).every(
    ([name, phase]) => there.phases[name]?.fingerprint === phase.fingerprint
  )
  if (same) return { manifest: before, notice: undefined }
  // First of all, so that a process that is killed now finds the same to be done.
  if (retried !== undefined) yield* Atomic.writeJson(join(dir, "manifest.json"), there)
  const move = yield* change(() => Earlier.plan(dir, there, now))
  for (const step of move.steps) yield* change(step)
  const tried = retried === undefined ? [] : [`Rejected samples of the phase ${retried} are tried again`]
  return { manifest: now, notice: Earlier.words([...tried, ...Manifest.differences(before, now)], move) }
})

/** Opens the folder of a run for as long as the scope lasts, or fails with a sentence and writes nothing. */
export const open = Effect.fnUntraced(function* (options: {
  readonly dir: string
  readonly manifest: Manifest.Manifest
  readonly counter?: Costs.Counter
  /** The rows of the input that could not be used. */
  readonly rejected?: ReadonlyArray<Omit<Rejected, "log">>
}): Effect.fn.Return<Run["Service"], RunError, Scope.Scope> {
  const { dir, rejected = [] } = options
  const scope = yield* Effect.scope
  const path = (...parts: ReadonlyArray<string>) => join(dir, ...parts)
  yield* check(dir)
  yield* Lock.hold(dir)
  // Another process may have begun a run here between the check and the lock.
  const before = yield* check(dir)
  if (before === undefined) yield* Atomic.writeJson(path("manifest.json"), options.manifest)
  const { manifest: found, notice } =
    before === undefined
      ? { manifest: options.manifest, notice: undefined }
      : yield* adopt(dir, before, options.manifest)
  let manifest = found
  const declare = Effect.fnUntraced(function* (name: string, logs: ReadonlyArray<string>) {
    const declared = Undeclared.add(manifest, name, logs)
    if (declared !== undefined) yield* Atomic.writeJson(path("manifest.json"), (manifest = declared))
  })

  const openLog = <A, I>(log: Log.Options<A, I>) => Effect.provideService(Log.open(log), Scope.Scope, scope)
  const sources = Earlier.sources(dir, manifest)
  // Another file, or one that was corrected, has other rows than there were.
  yield* changing(dir, () => Earlier.dropRejected(dir))
  const rejects = yield* openLog({ file: path("rejected.jsonl"), schema: Rejected, key: Retried.key })
  yield* Effect.forEach(rejected, rejects.append, { discard: true })
  yield* rejects.settle(rejected.map(Retried.key))
  const rejectedEarlier = yield* Effect.try({
    try: () =>
      new Map(
        Earlier.rejected(sources)
          .map((row) => decodeRejected(row))
          .map((row) => [Retried.key(row), row])
      ),
    catch: () => failed(`A rejected.jsonl in ${path(Earlier.folder)} is damaged; correct it or move it away.`)
  })
  const phaseOf = (file: string) =>
    Object.keys(manifest.phases).find((name) => {
      const { logs, files } = manifest.phases[name]!
      return file in logs || files.includes(file)
    })
  const logs = new Map<string, Records<any>>()
  const records = Effect.fnUntraced(function* <A, I>(
    file: string,
    schema: Schema.Codec<A, I>,
    key: (record: A) => string,
    like?: string
  ) {
    const known = logs.get(file)
    if (known !== undefined) return known as Records<A>
    if (phaseOf(file) === undefined) yield* declare(file, [file])
    const asides = sources.get(file) ?? []
    const ofTraining = Object.values(manifest.phases).some(({ files }) => files.includes(file))
    const log = yield* openLog({
      file: path(file),
      schema,
      key,
      whole: ofTraining,
      sources: [...(like === undefined ? [] : [path(like)]), ...asides.map((aside) => join(aside, file))]
    })
    const opened: Records<A> = {
      ...log,
      reject: (stage, id, reason) => rejects.append({ stage, log: file, id, reason }),
      isRejected: Effect.fnUntraced(function* (stage, id) {
        const at = (log: string) => Retried.key({ stage, log, id })
        if (rejects.get(at(file)) !== undefined) return true
        if (like !== undefined && rejects.get(at(like)) !== undefined) return true
        // In a finished phase all of them were taken over: one that is not there was deleted, to be tried again.
        const earlier = isDone(phaseOf(file) ?? "") ? undefined : rejectedEarlier.get(at(file))
        if (earlier !== undefined) yield* rejects.append(earlier)
        return earlier !== undefined
      })
    }
    logs.set(file, opened)
    return opened
  })

  const finished = Finished.check(dir, manifest, yield* list(path("phases.json")))
  let { phases } = finished
  // Before a file that is gone begins to be made again: half of it must not pass for the whole in a later start.
  if (!finished.areAll) yield* Atomic.writeJson(path("phases.json"), phases)
  const fingerprint = (name: string) => manifest.phases[name]?.fingerprint ?? Undeclared.fingerprint(manifest)
  const isDone = (name: string) => phases[name]?.fingerprint === fingerprint(name)

  const costs = yield* Costs.make(
    path("timings.json"),
    yield* list(path("timings.json")),
    options.counter ?? { read: () => ({}) }
  )

  const forget = (calls: string) =>
    Effect.sync(() => {
      rmSync(path(calls), { force: true })
      try {
        rmdirSync(path("calls"))
      } catch {
        // There are others in it, or it is not there.
      }
    })

  const settleRejects = Effect.suspend(() =>
    rejects.settle([
      ...rejected.map(Retried.key),
      ...rejects
        .values()
        .filter(({ log }) => log !== undefined)
        .map(Retried.key)
        .toSorted((a, b) => (a < b ? -1 : 1))
    ])
  )

  const phase: Run["Service"]["phase"] = Effect.fnUntraced(function* (name, self) {
    const calls = Earlier.callsFile(name)
    yield* declare(name, [])
    if (isDone(name)) {
      yield* forget(calls)
      const result = yield* self
      yield* settleRejects
      // A sample that was tried again may have been rejected again, or not.
      const noted = Finished.noted(phases, manifest, name, rejects.values().map(Retried.key))
      if (hash(noted) !== hash(phases)) yield* Atomic.writeJson(path("phases.json"), (phases = noted))
      return result
    }
    const keeping = Effect.scoped(
      Effect.flatMap(Log.open({ file: path(calls), schema: Call, key: ({ key }) => key }), (log) =>
        Effect.provideService(self, Calls, log)
      )
    )
    const result = yield* costs.noting(name, keeping)
    yield* settleRejects
    const failures = rejects.values().map(Retried.key)
    phases = yield* changing(dir, () => Finished.addUnsafe(dir, phases, manifest, name, fingerprint(name), failures))
    yield* Atomic.writeJson(path("phases.json"), phases)
    yield* forget(calls)
    return result
  })

  return {
    dir,
    manifest: found,
    notice,
    path,
    log: records,
    rejected: rejects.values,
    phase,
    isDone,
    timings: costs.timings,
    write: (file, value) => Atomic.writeJson(path(file), value)
  }
})
