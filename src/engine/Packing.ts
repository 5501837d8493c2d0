/** Packing: which short rows stand side by side in one sequence (`Layout.packed`), so that little is padded. Pure. */

/** Rows in bins of at most `width` tokens, first fit by falling length; a single longer row is a bin. */
export const bins = <Row extends { readonly ids: ReadonlyArray<number> }>(
  rows: ReadonlyArray<Row>,
  width: number
): ReadonlyArray<ReadonlyArray<Row>> => {
  const found: Array<{ room: number; readonly rows: Array<Row> }> = []
  for (const row of [...rows].sort((a, b) => b.ids.length - a.ids.length)) {
    const bin = found.find(({ room }) => room >= row.ids.length)
    if (bin === undefined) found.push({ room: width - row.ids.length, rows: [row] })
    else {
      bin.rows.push(row)
      bin.room -= row.ids.length
    }
  }
  return found.map((bin) => bin.rows)
}
