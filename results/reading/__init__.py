"""Reading a store: tables as DataFrames, fronts, curves and summaries, aggregated by the database if possible."""
