/**
 * Quoted: words out of files, as error messages show them.
 *
 * Names come from files of other people: they may be as long as the file, or hold line breaks and control characters
 * that a terminal would obey.
 */

/** A name from a file on one line of at most about `most` characters. */
export const quoted = (name: string, most = 120): string => {
  const cut = name.length > most ? `${name.slice(0, most).replace(/[\ud800-\udbff]$/, "")}…` : name
  return cut.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`)
}

/** A value from a JSON file, in the same bounds. */
export const quotedJson = (value: unknown): string => {
  if (typeof value !== "object" || value === null) return quoted(String(JSON.stringify(value)))
  try {
    return quoted(JSON.stringify(value))
  } catch {
    // Nested deeper than the stack.
    return Array.isArray(value) ? "[…]" : "{…}"
  }
}

/** What something thrown says, as a part of a sentence. */
export const reason = (cause: unknown): string => {
  const text = cause instanceof Error ? cause.message : String(cause)
  return quoted(text.replace(/\s+/g, " ").trim().replace(/\.+$/, ""), 300)
}
