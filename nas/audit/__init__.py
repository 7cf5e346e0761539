"""Auditing the proxy: does its order of training earn its keep?"""
