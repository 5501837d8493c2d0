/**
 * Run: the folder of a run, which can be killed at any moment and started again.
 *
 * ```
 * manifest.json     what determines the run
 * phases.json       which phases are finished, with their seconds and tokens
 * run.lock          the process that writes here, while it does
 * rejected.jsonl    samples that failed, with the reason
 * <phase>/*.jsonl   the records of each stage, by key
 * summary.json      the result
 * ```
 */
import { Clock, Context, Effect, Exit, Option, Schema } from "effect"
import type { Scope } from "effect"
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import * as Atomic from "./Atomic.ts"
import * as Lock from "./Lock.ts"
import * as Log from "./Log.ts"
import * as Manifest from "./Manifest.ts"
import { failed, refuse, type RunError } from "./RunError.ts"

/** A sample that failed, or a row of input that could not be used. */
export const Rejected = Schema.Struct({ stage: Schema.String, id: Schema.String, reason: Schema.Json })
export type Rejected = typeof Rejected.Type

/** What a phase has cost so far, over all starts of the run. */
export const PhaseState = Schema.Struct({
  done: Schema.Boolean,
  seconds: Schema.Number,
  tokens: Schema.Record(Schema.String, Schema.Number)
})
export type PhaseState = typeof PhaseState.Type

/** Counts that grow while a run goes on; what grows within a phase is the phase's. */
export interface Counter {
  readonly read: () => Readonly<Record<string, number>>
}

/** The folder of a run. */
export class Run extends Context.Service<
  Run,
  {
    readonly dir: string
    readonly manifest: Manifest.Manifest
    /** A path inside of the folder. */
    readonly path: (...parts: ReadonlyArray<string>) => string
    /** The log of one kind of record. */
    readonly log: <A, I>(
      file: string,
      schema: Schema.Codec<A, I>,
      key: (record: A) => string
    ) => Effect.Effect<Log.Log<A>, RunError, Scope.Scope>
    /** Notes a sample that failed; it is not tried again in this run. */
    readonly reject: (rejected: Rejected) => Effect.Effect<void, RunError>
    readonly isRejected: (stage: string, id: string) => boolean
    readonly rejected: () => ReadonlyArray<Rejected>
    /** Runs a phase: its time and tokens are added to what earlier starts needed, and its end is marked. */
    readonly phase: <A, E, R>(name: string, self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RunError, R>
    readonly isDone: (phase: string) => boolean
    readonly phases: () => Readonly<Record<string, PhaseState>>
    /** Writes a JSON file of the folder, whole or not at all. */
    readonly write: (file: string, value: unknown) => Effect.Effect<void, RunError>
  }
>()("charter/Run") {}

const decodeManifest = Schema.decodeUnknownOption(Manifest.Manifest)
const decodePhases = Schema.decodeUnknownOption(Schema.Record(Schema.String, PhaseState))

/** Fails with a sentence when the folder cannot hold this run; writes nothing. */
export const check = Effect.fnUntraced(function* (dir: string, manifest: Manifest.Manifest) {
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
  const [difference, ...more] = Manifest.differences(before, manifest)
  if (difference !== undefined) {
    const others = more.length === 0 ? "" : ` (and ${more.length} more)`
    return yield* refuse(
      `${dir} holds another run: ${difference}${others}; use another --out, or the same settings to go on.`
    )
  }
  return before
})

/** Opens the folder of a run for as long as the scope lasts, or fails with a sentence and writes nothing. */
export const open = Effect.fnUntraced(function* (options: {
  readonly dir: string
  readonly manifest: Manifest.Manifest
  readonly counter?: Counter
}): Effect.fn.Return<Run["Service"], RunError, Scope.Scope> {
  const { dir } = options
  const path = (...parts: ReadonlyArray<string>) => join(dir, ...parts)
  yield* check(dir, options.manifest)
  yield* Lock.hold(dir)
  // Another process may have begun a run here between the check and the lock.
  const before = yield* check(dir, options.manifest)
  const manifest = before ?? options.manifest
  if (before === undefined) yield* Atomic.writeJson(path("manifest.json"), manifest)

  const rejects = yield* Log.open({
    file: path("rejected.jsonl"),
    schema: Rejected,
    key: ({ stage, id }) => `${stage} ${id}`
  })
  const phases: Record<string, PhaseState> = {
    ...Option.getOrUndefined(decodePhases(yield* Atomic.readJson(path("phases.json"))))
  }
  const count = () => options.counter?.read() ?? {}

  const phase: Run["Service"]["phase"] = Effect.fnUntraced(function* (name, self) {
    const before = phases[name] ?? { done: false, seconds: 0, tokens: {} }
    const started = yield* Clock.currentTimeMillis
    const counted = count()
    const save = (done: boolean) =>
      Effect.gen(function* () {
        const seconds = ((yield* Clock.currentTimeMillis) - started) / 1000
        const grown = Object.entries(count()).map(
          ([key, n]) => [key, (before.tokens[key] ?? 0) + n - (counted[key] ?? 0)] as const
        )
        // Going through a finished phase again only reads what is there.
        phases[name] = before.done
          ? before
          : {
              done,
              seconds: Math.round((before.seconds + seconds) * 1000) / 1000,
              tokens: { ...before.tokens, ...Object.fromEntries(grown) }
            }
        yield* Atomic.writeJson(path("phases.json"), phases)
      })
    // A kill loses the cost since the last of these, and never a record.
    const saving = Effect.forever(Effect.andThen(Effect.sleep("2 seconds"), save(false)))
    return yield* Effect.raceFirst(self, saving).pipe(
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? save(true) : Effect.ignore(save(false))))
    )
  })

  return {
    dir,
    manifest,
    path,
    log: (file, schema, key) => Log.open({ file: path(file), schema, key }),
    reject: rejects.append,
    isRejected: (stage, id) => rejects.get(`${stage} ${id}`) !== undefined,
    rejected: rejects.values,
    phase,
    isDone: (name) => phases[name]?.done === true,
    phases: () => phases,
    write: (file, value) => Atomic.writeJson(path(file), value)
  }
})

/** The folder cannot be written any more: a sink that cannot fail gives the reason to the fiber instead. */
export const orDie = <A, R>(self: Effect.Effect<A, RunError, R>): Effect.Effect<A, never, R> =>
  self.pipe(Effect.catch((error) => Effect.die(failed(error.message))))
