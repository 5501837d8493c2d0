/**
 * Retried: rejected samples that are to be tried again, because their lines were deleted from `rejected.jsonl`.
 *
 * What was made without such a sample does not hold any more: a reward model would be tested on labels that it has
 * learnt. So a finished phase notes which samples it rejected, and where one of them is not in `rejected.jsonl` any more,
 * all phases behind it are done again, as if what determines them were another, and so is a training itself, whose steps
 * build on each other. What was there is moved aside.
 */
import { join } from "node:path"
import * as Atomic from "./Atomic.ts"
import type { Phases } from "./Finished.ts"
import type { Manifest } from "./Manifest.ts"
import type { Phase } from "./Phases.ts"

/** A row of `rejected.jsonl`, as far as it says which sample of which log it is about. */
interface Row {
  readonly log?: string
  readonly stage: string
  readonly id: string
}

/** What a rejected sample is known by. */
export const key = ({ log = "", stage, id }: Row): string => `${log} ${stage} ${id}`

/** The samples that are rejected in a folder; throws. */
export const keysUnsafe = (dir: string): ReadonlySet<string> => {
  const text = Atomic.readUnsafe(join(dir, "rejected.jsonl")) ?? ""
  const keys = text.split("\n").flatMap((line) => {
    try {
      return [key(JSON.parse(line) as Row)]
    } catch {
      // A damaged line is named by who reads the rows.
      return []
    }
  })
  return new Set(keys)
}

/** The first phase with a sample to be tried again on which others build. */
export const phase = (manifest: Manifest, finished: Phases, keys: ReadonlySet<string>): string | undefined =>
  Object.keys(manifest.phases)
    .slice(0, -1)
    .find((name) => finished[name]?.rejected?.some((key) => !keys.has(key)))

const mark = " before a retry"

/** The phases that were made again with a sample that was tried again, and the last phase with logs before them. */
export interface Retry {
  readonly phase: string
  readonly logs: Phase["logs"]
  readonly behind: ReadonlySet<string>
}

/** The retry that what has a manifest was made before; undefined where it was before none. */
export const of = ({ phases }: Pick<Manifest, "phases">): Retry | undefined => {
  const names = Object.keys(phases)
  const at = names.findIndex((name) => phases[name]!.fingerprint.includes(mark))
  // A training has no logs: what it rests on is before it.
  const phase = names.slice(0, Math.max(0, at)).findLast((name) => Object.keys(phases[name]!.logs).length > 0)
  return phase === undefined ? undefined : { phase, logs: phases[phase]!.logs, behind: new Set(names.slice(at)) }
}

/**
 * Whether a phase of an older manifest may rest on what a retry replaced: whatever the settings of the phase itself, it
 * does where it was made again and the phase before had records of the same hash.
 */
export const replaced = (retry: Retry, { phases }: Pick<Manifest, "phases">, name: string): boolean =>
  retry.behind.has(name) &&
  Object.entries(phases[retry.phase]?.logs ?? {}).some(([log, hash]) => retry.logs[log] === hash)

/**
 * The manifest of what was made before samples of a phase were tried again: nothing of the phases behind it holds, nor
 * of the phase itself where it is a training.
 */
export const before = (manifest: Manifest, name: string): Manifest => {
  const at = Object.keys(manifest.phases).indexOf(name)
  const marked = (hash: string) => `${hash}${mark}`
  const phases = Object.entries(manifest.phases).map(([other, phase], i) => {
    const keepsItsRecords = Object.keys(phase.logs).length > 0
    if (i < at || (i === at && keepsItsRecords)) return [other, phase] as const
    const logs = Object.fromEntries(Object.entries(phase.logs).map(([log, hash]) => [log, marked(hash)]))
    return [other, { ...phase, fingerprint: marked(phase.fingerprint), logs }] as const
  })
  return { ...manifest, phases: Object.fromEntries(phases) }
}
