/**
 * Undeclared: phases and logs of a program's own that the manifest of a run does not have.
 *
 * What they read is known to nobody, so they depend on everything: whatever is done again, they are, too. Each is put
 * into the manifest of the folder when it is first used, so that the next start finds there what does not hold any more.
 */
import { Schema } from "effect"
import { Manifest } from "./Manifest.ts"
import type { Phase } from "./Phases.ts"
import { hash } from "./Phases.ts"

/** What the fingerprints of the undeclared begin with. */
const mark = "everything "

const isUndeclared = ({ fingerprint }: Phase): boolean => fingerprint.startsWith(mark)

/** A manifest as it stands in its file: with the same order of keys, whoever has made it. */
const canonical = Schema.decodeUnknownSync(Manifest)

/** What the undeclared depend on: the manifest without them. */
export const fingerprint = (manifest: Manifest): string => {
  const { phases, ...rest } = canonical(manifest)
  const declared = Object.entries(phases).filter(([, phase]) => !isUndeclared(phase))
  return mark + hash([rest, declared])
}

/** The manifest with a phase or a log that it does not have; undefined where it has it. */
export const add = (
  manifest: Manifest,
  name: string,
  /** The logs of it. */
  files: ReadonlyArray<string> = []
): Manifest | undefined => {
  if (Object.hasOwn(manifest.phases, name)) return undefined
  const everything = fingerprint(manifest)
  const logs = Object.fromEntries(files.map((file) => [file, everything]))
  return { ...manifest, phases: { ...manifest.phases, [name]: { fingerprint: everything, logs, files: [] } } }
}
