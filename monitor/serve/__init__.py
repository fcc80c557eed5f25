"""The query service: experiments and health, read from the store, with one data center serving each minute."""
