/** Count: numbers of things as words. Pure. */

/** `1 row`, `2 rows`: `name` is the singular of a noun that takes an s. */
export const count = (n: number, name: string): string => `${n} ${name}${n === 1 ? "" : "s"}`
