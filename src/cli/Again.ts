/**
 * Again: the command of this process once more, as it would be typed.
 */

const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** A word without the query of an address in it: servers take keys there, and what is printed is kept in logs. */
const withoutQuery = (word: string): string => word.replace(/(https?:[^?]*\?).+$/is, "$1…")

/** The words of a command line as one that can be typed, but for queries of addresses. */
export const words = (args: ReadonlyArray<string>): string =>
  ["charter", ...args.map(withoutQuery).map(quoted)].join(" ")
